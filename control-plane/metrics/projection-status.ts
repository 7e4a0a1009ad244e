import type { JetStreamManager, NatsConnection } from 'nats';
import { errorCode } from '../../shared/errors.ts';
import { EVENT_STREAM } from '../../shared/nats/streams.ts';
import type { Database } from '../storage/database.ts';

/** Work that waits this long while nothing is committed means that the projection is stuck (ours). */
export const STUCK_AFTER_SECONDS = 60;

export interface ProjectionStatus {
  /** Position of the newest event of the log. */
  readonly position: number;
  /** Sequence of the last message of the stream that is projected. */
  readonly streamSeq: number;
  /** Messages of the stream that are not projected yet; each carries up to 100 events. Null: NATS did not answer. */
  readonly lagEvents: number | null;
  /** Age of the oldest of them, seconds; 0 when there is none. Null: NATS did not answer. */
  readonly lagSeconds: number | null;
  readonly parked: number;
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
  const count = (table: 'parked_events' | 'dead_letter' | 'event_gaps' | 'address_conflicts' | 'outbox') =>
    database.selectFrom(table).select(({ fn }) => fn.countAll<number>().as('count'));
  const [checkpoint, parked, deadLetters, gaps, addressConflicts, outbox] = await Promise.all([
    database
      .selectFrom('event_checkpoint')
      .select(['position', 'stream_seq', 'stream_created'])
      .executeTakeFirstOrThrow(),
    count('parked_events').executeTakeFirstOrThrow(),
    count('dead_letter').executeTakeFirstOrThrow(),
    count('event_gaps').executeTakeFirstOrThrow(),
    count('address_conflicts').executeTakeFirstOrThrow(),
    count('outbox').executeTakeFirstOrThrow(),
  ]);
  const lag = await readLag(nats, checkpoint.stream_seq, checkpoint.stream_created);
  return {
    position: checkpoint.position,
    streamSeq: checkpoint.stream_seq,
    ...lag,
    parked: parked.count,
    deadLetters: deadLetters.count,
    gaps: gaps.count,
    addressConflicts: addressConflicts.count,
    outbox: outbox.count,
  };
}

/** Whether the projection has had work for STUCK_AFTER_SECONDS and has not done it. */
export function isStuck({ lagSeconds }: Pick<ProjectionStatus, 'lagSeconds'>): boolean {
  return lagSeconds !== null && lagSeconds > STUCK_AFTER_SECONDS;
}

type Lag = Pick<ProjectionStatus, 'lagEvents' | 'lagSeconds'>;

async function readLag(
  nats: NatsConnection | undefined,
  streamSeq: number,
  streamCreated: string | null,
): Promise<Lag> {
  if (!nats) return { lagEvents: null, lagSeconds: null };
  try {
    const manager = await nats.jetstreamManager({ checkAPI: false });
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
