import { setTimeout as delay } from 'node:timers/promises';
import { sql } from 'kysely';
import type { NatsConnection } from 'nats';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log/logger.ts';
import {
  nodeOfPresenceSubject,
  PRESENCE_SUBJECTS,
  type Presence,
  presenceMessage,
} from '../../shared/nats/messages.ts';
import type { DecisionContext } from '../leader/decide-in-transaction.ts';
import type { LeaderService } from '../leader/leader-service.ts';
import { watchConnection } from '../leader/watch-connection.ts';
import { checkOwnerEpoch } from '../storage/projection-lock.ts';
import type { Term } from '../storage/term.ts';
import { loseNodes } from './lose-nodes.ts';
import { effectiveState } from './node-states.ts';
import { NodeWatch } from './node-watch.ts';
import { recordLostTails } from './record-lost-tails.ts';

/** How often silence is judged and what was heard is written down (ours). */
const JUDGE_INTERVAL_MS = 1_000;
/** Ours: a server that takes longer to answer is cut off from us, whatever the connection looks like. */
const ANSWER_TIMEOUT_MS = 2_000;
/** Ours: spools of one node of which it is written down at a time how far they are: a lost disk makes two, a liar any number. */
const SPOOLS_AT_ONCE = 2;

interface Heard extends Presence {
  readonly node: string;
  /** On this process's monotonic clock. */
  readonly atMs: number;
}

/**
 * Listens to the nodes' presence and declares lost those that are silent. Judged is only while NATS answers: takeover, and
 * every time that it did not, start all timers afresh, so an outage of NATS or of the control plane loses no node.
 */
export function presenceService(nats: NatsConnection, context: DecisionContext, log: Logger): LeaderService {
  return {
    name: 'presence',
    async run(term) {
      const watch = new NodeWatch();
      const unsaved: Unsaved = new Map();
      const subscription = nats.subscribe(PRESENCE_SUBJECTS, {
        callback: (error, message) => {
          if (error) return;
          const heard = decode(nodeOfPresenceSubject(message.subject), message.data, log);
          if (!heard) return;
          watch.hear(heard.node, performance.now());
          keep(unsaved, heard);
        },
      });
      // One that is lost and back between two questions would go unnoticed.
      const unwatch = watchConnection(nats, { onDown: () => watch.stopListening() });
      try {
        while (!term.signal.aborted) {
          await savePresence(term, context, unsaved);
          for (const lost of await recordLostTails(context.database, term))
            log.error(lost, 'events of a spool that was replaced will never come: see event_gaps');
          if (!(await answers(nats, term.signal))) watch.stopListening();
          else if (!watch.isListening()) watch.startListening(performance.now());
          else await judge(term, watch, context, log);
          await delay(JUDGE_INTERVAL_MS, undefined, { signal: term.signal }).catch(() => undefined);
        }
      } finally {
        unwatch();
        subscription.unsubscribe();
      }
    },
  };
}

/**
 * Whether the server answers now: a frozen one keeps its connections, and ten seconds of its silence are not the nodes'. Its
 * answer comes behind all that it sent before, and once it has our subscription.
 */
async function answers(nats: NatsConnection, signal: AbortSignal): Promise<boolean> {
  const answered = new AbortController();
  const tooLate = delay(ANSWER_TIMEOUT_MS, false, { signal: AbortSignal.any([signal, answered.signal]) });
  const answer = nats.flush().then(() => true);
  try {
    return await Promise.race([answer, tooLate]);
  } catch {
    return false;
  } finally {
    answered.abort();
    for (const late of [answer, tooLate]) late.catch(() => undefined);
  }
}

async function judge(term: Term, watch: NodeWatch, context: DecisionContext, log: Logger): Promise<void> {
  const { rows } = await sql<{ node: string }>`
    SELECT n.node FROM nodes n LEFT JOIN node_presence p USING (node)
    WHERE ${effectiveState} IN ('up', 'draining')`.execute(context.database);
  const candidates = rows.map(({ node }) => node);
  const silent = watch.silent(candidates, performance.now());
  if (silent.length === 0) return;
  const lost = await loseNodes(context, term, silent);
  for (const { node, connections } of lost)
    log.warn({ node, connections }, 'node lost: its connections are presumed closed');
}

function decode(node: string, data: Uint8Array, log: Logger): Heard | undefined {
  try {
    return { node, ...presenceMessage.decode(data), atMs: performance.now() };
  } catch (error) {
    log.debug(`presence of ${node} is unreadable: ${describeError(error)}`);
    return undefined;
  }
}

/** By node: the newest of each of its newest spools, the latest last. */
type Unsaved = Map<string, readonly Heard[]>;

function keep(unsaved: Unsaved, heard: Heard): void {
  const before = unsaved.get(heard.node) ?? [];
  const lastSeq = heard.lastSeq ?? before.find(({ epoch }) => epoch === heard.epoch)?.lastSeq;
  const others = before.filter(({ epoch }) => epoch !== heard.epoch).slice(1 - SPOOLS_AT_ONCE);
  unsaved.set(heard.node, [...others, { ...heard, ...(lastSeq === undefined ? {} : { lastSeq }) }]);
}

async function savePresence(term: Term, { database }: DecisionContext, unsaved: Unsaved): Promise<void> {
  if (unsaved.size === 0) return;
  const heard = [...unsaved.values()].flat();
  const newest = [...unsaved.values()].flatMap((spools) => spools.slice(-1));
  unsaved.clear();
  const reports = heard.flatMap(({ node, epoch, lastSeq }) =>
    lastSeq === undefined ? [] : [{ node, epoch, lastSeq }],
  );
  const now = performance.now();
  await database.transaction().execute(async (trx) => {
    await checkOwnerEpoch(trx, term.ownerEpoch);
    // Ages, not times, cross to Postgres: lost_at and last_seen_at have to be of one clock.
    await sql`
      INSERT INTO node_presence (node, epoch, incarnation, last_seen_at)
      SELECT node, epoch, incarnation, clock_timestamp() - age_ms * interval '1 millisecond'
      FROM unnest(${newest.map(({ node }) => node)}::text[], ${newest.map(({ epoch }) => epoch)}::text[],
        ${newest.map(({ incarnation }) => incarnation)}::text[], ${newest.map(({ atMs }) => now - atMs)}::float8[])
        AS heard (node, epoch, incarnation, age_ms)
      ON CONFLICT (node) DO UPDATE SET epoch = excluded.epoch, incarnation = excluded.incarnation,
        last_seen_at = excluded.last_seen_at`.execute(trx);
    await sql`
      INSERT INTO spool_reports AS known (node, epoch, last_seq, reported_at)
      SELECT node, epoch, last_seq, clock_timestamp()
      FROM unnest(${reports.map(({ node }) => node)}::text[], ${reports.map(({ epoch }) => epoch)}::text[],
        ${reports.map(({ lastSeq }) => lastSeq)}::bigint[]) AS heard (node, epoch, last_seq)
      ON CONFLICT (node, epoch) DO UPDATE SET last_seq = excluded.last_seq, reported_at = excluded.reported_at
        WHERE known.last_seq < excluded.last_seq`.execute(trx);
  });
}
