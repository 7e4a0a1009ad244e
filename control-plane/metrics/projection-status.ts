import { sql } from 'kysely';
import type { JetStreamManager, NatsConnection } from 'nats';
import { errorCode } from '../../shared/errors.ts';
import { EVENT_STREAM } from '../../shared/nats/streams.ts';
import type { Database } from '../storage/database.ts';

/** Work that waits this long while nothing is committed means that the projection is stuck (ours). */
export const STUCK_AFTER_SECONDS = 60;
/** Without an answer within this NATS is taken to be away (ours): a scrape must not wait for its return. */
const NATS_TIMEOUT_MS = 1_000;

export interface ProjectionStatus {
  /** Position of the newest event of the log. */
  readonly position: number;
  /** Sequence of the last message of the stream that is projected. */
  readonly streamSeq: number;
  /** Messages of the stream that are not projected yet; each carries up to 100 events. Null: NATS did not answer. */
  readonly lagEvents: number | null;
  /** Age of the oldest of them, seconds; 0 when there is none. Null: NATS did not answer. */
  readonly lagSeconds: number | null;
  /** Since the newest commit of the projection. */
  readonly idleSeconds: number;
  readonly parked: number;
  /** For how long the first of them has waited, seconds; 0 when there is none. */
  readonly parkedSeconds: number;
  readonly deadLetters: number;
  readonly gaps: number;
  readonly addressConflicts: number;
  readonly outbox: number;
}

/** How far the projection is, from Postgres and, for the lag, the stream. */
export async function readProjectionStatus(
  database: Database,
  nats: NatsConnection | undefined,
): Promise<ProjectionStatus> {
  const { rows } = await sql<{
    position: number;
    stream_seq: number;
    stream_created: string | null;
    idle_seconds: number;
    parked: number;
    parked_seconds: number;
    dead_letters: number;
    gaps: number;
    address_conflicts: number;
    outbox: number;
  }>`
    SELECT position, stream_seq, stream_created,
      greatest(0, extract(epoch FROM clock_timestamp() - committed_at))::double precision AS idle_seconds,
      (SELECT count(*) FROM parked_events) AS parked,
      (SELECT greatest(0, coalesce(extract(epoch FROM clock_timestamp() - min(parked_at)), 0))::double precision
       FROM parked_events) AS parked_seconds,
      (SELECT count(*) FROM dead_letter WHERE resolved_at IS NULL) AS dead_letters,
      (SELECT count(*) FROM event_gaps) AS gaps,
      (SELECT count(*) FROM address_conflicts) AS address_conflicts,
      (SELECT count(*) FROM outbox) AS outbox
    FROM event_checkpoint`.execute(database);
  const row = rows[0]!;
  const lag = await readLag(nats, row.stream_seq, row.stream_created);
  return {
    position: row.position,
    streamSeq: row.stream_seq,
    ...lag,
    idleSeconds: row.idle_seconds,
    parked: row.parked,
    parkedSeconds: row.parked_seconds,
    deadLetters: row.dead_letters,
    gaps: row.gaps,
    addressConflicts: row.address_conflicts,
    outbox: row.outbox,
  };
}

/** Whether the projection has had work for STUCK_AFTER_SECONDS and has done none of it. One that catches up after an outage is late, not stuck. */
export function isStuck({ lagSeconds, idleSeconds }: Pick<ProjectionStatus, 'lagSeconds' | 'idleSeconds'>): boolean {
  return lagSeconds !== null && Math.min(lagSeconds, idleSeconds) > STUCK_AFTER_SECONDS;
}

type Lag = Pick<ProjectionStatus, 'lagEvents' | 'lagSeconds'>;

async function readLag(
  nats: NatsConnection | undefined,
  streamSeq: number,
  streamCreated: string | null,
): Promise<Lag> {
  if (!nats) return { lagEvents: null, lagSeconds: null };
  try {
    const manager = await nats.jetstreamManager({ checkAPI: false, timeout: NATS_TIMEOUT_MS });
    const { created, state } = await manager.streams.info(EVENT_STREAM);
    const done = streamCreated === created && streamSeq <= state.last_seq ? streamSeq : 0;
    const next = Math.max(done + 1, state.first_seq);
    const lagEvents = Math.max(0, state.last_seq - next + 1);
    return { lagEvents, lagSeconds: lagEvents === 0 ? 0 : await ageOf(manager, next) };
  } catch {
    return { lagEvents: null, lagSeconds: null };
  }
}

async function ageOf(manager: JetStreamManager, seq: number): Promise<number | null> {
  try {
    const message = await manager.streams.getMessage(EVENT_STREAM, { seq });
    return Math.max(0, (Date.now() - message.time.getTime()) / 1000);
  } catch (error) {
    // Discarded between the two questions.
    if (errorCode(error) === '404') return 0;
    throw error;
  }
}
