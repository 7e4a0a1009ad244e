import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConnection } from 'nats';
import { encodeEvents, MAX_EVENTS_PER_MESSAGE } from '../../shared/events/envelope.ts';
import { CONTROL_EVENT_SUBJECT } from '../../shared/events/subjects.ts';
import type { Logger } from '../../shared/log/logger.ts';
import type { LeaderService } from '../leader/leader-service.ts';
import type { Database } from '../storage/database.ts';
import { checkOwnerEpoch } from '../storage/projection-lock.ts';

/** Between two looks into an empty outbox (ours). */
const POLL_INTERVAL_MS = 250;

/**
 * Publishes the control plane's own events, in their order. They are in the log already, so this is for other readers of
 * the stream; an event can come twice (a publish that timed out may have been stored), and its identity says so.
 */
export function outboxPublisher(database: Database, nats: NatsConnection, log: Logger): LeaderService {
  return {
    name: 'outbox',
    async run(term) {
      const jetstream = nats.jetstream();
      while (!term.signal.aborted) {
        const rows = await database
          .selectFrom('outbox')
          .select(['seq', 'envelope'])
          .orderBy('seq')
          .limit(MAX_EVENTS_PER_MESSAGE)
          .execute();
        const last = rows.at(-1);
        if (last === undefined) {
          await delay(POLL_INTERVAL_MS, undefined, { signal: term.signal }).catch(() => undefined);
          continue;
        }
        const message = encodeEvents(rows.map(({ envelope }) => envelope));
        const { seq: streamSeq } = await jetstream.publish(CONTROL_EVENT_SUBJECT, message);
        await database.transaction().execute(async (trx) => {
          await checkOwnerEpoch(trx, term.ownerEpoch);
          // Only what was published: a transaction that began earlier cannot add a lower seq, the log's lock sees to that.
          await trx.deleteFrom('outbox').where('seq', '<=', last.seq).execute();
        });
        log.debug({ events: rows.length, streamSeq }, 'control events published');
      }
    },
  };
}
