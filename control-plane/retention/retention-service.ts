import { setTimeout as delay } from 'node:timers/promises';
import { sql } from 'kysely';
import { errorCode } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log/logger.ts';
import type { LeaderService } from '../leader/leader-service.ts';
import type { Database } from '../storage/database.ts';
import { checkOwnerEpoch, lockProjections } from '../storage/projection-lock.ts';
import type { Term } from '../storage/term.ts';
import { retireOldestEvents } from './retire-events.ts';
import { retireOldestTraffic } from './retire-traffic.ts';

/** How often it is looked for what is too old (ours); partitions are much longer. */
const INTERVAL_MS = 10 * 60_000;
const MS_PER_DAY = 86_400_000;
/** Postgres: lock not available, deadlock detected, serialization failure; ours: another process works on the snapshot. */
const BUSY_CODES = new Set(['55P03', '40P01', '40001', 'COPY_IN_USE']);

/** Days that are kept; 0: for ever. */
export interface Retention {
  readonly eventsDays: number;
  readonly trafficDays: number;
}

/** Makes partitions ahead of the log, and drops those that are older than they are kept. */
export function retentionService(database: Database, retention: Retention, log: Logger): LeaderService {
  const retire = async (
    term: Term,
    days: number,
    oldest: (database: Database, term: Term, before: Date) => Promise<string | undefined>,
  ) => {
    if (days === 0) return;
    for (;;) {
      if (term.signal.aborted) return;
      const dropped = await oldest(database, term, new Date(Date.now() - days * MS_PER_DAY));
      if (dropped === undefined) return;
      log.info({ partition: dropped, days }, 'a partition was older than it is kept, and is dropped');
    }
  };
  return {
    name: 'retention',
    async run(term) {
      while (!term.signal.aborted) {
        await makePartitionsAhead(database, term);
        try {
          await retire(term, retention.trafficDays, retireOldestTraffic);
          await retire(term, retention.eventsDays, retireOldestEvents);
        } catch (error) {
          if (!BUSY_CODES.has(errorCode(error) ?? '')) throw error;
          log.info({ err: error }, 'a partition that is too old is in use, trying again later');
        }
        await delay(INTERVAL_MS, undefined, { signal: term.signal }).catch(() => undefined);
      }
    },
  };
}

async function makePartitionsAhead(database: Database, term: Term): Promise<void> {
  await database.transaction().execute(async (trx) => {
    await lockProjections(trx);
    await checkOwnerEpoch(trx, term.ownerEpoch);
    await sql`
      SELECT ensure_event_partitions(position), ensure_traffic_partitions(position) FROM event_checkpoint`.execute(trx);
  });
}
