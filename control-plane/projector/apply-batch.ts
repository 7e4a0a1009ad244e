import { sql } from 'kysely';
import { CodedError } from '../../shared/errors.ts';
import { foldTraffic } from '../projections/fold-traffic.ts';
import type { ProjectionMemory } from '../projections/projection-memory.ts';
import type { Database, DatabaseTransaction } from '../storage/database.ts';
import { checkOwnerEpoch, lockProjections } from '../storage/projection-lock.ts';
import { applyEvents } from './apply-events.ts';
import { type IncomingEvent, type ReadMessage, readMessage, type StreamMessage } from './read-message.ts';
import { sequence } from './sequence.ts';
import { loadEpochs, loadParked, storeDeadLetters, storeSequence } from './sequence-store.ts';

/** Which message of which stream was the last that is projected. */
export interface StreamPosition {
  /** Creation time of the stream; null before the first. */
  readonly streamCreated: string | null;
  readonly streamSeq: number;
}

/** How far a spool is applied, for its node. */
export interface AppliedEpoch {
  readonly node: string;
  readonly epoch: string;
  readonly appliedSeq: number;
}

export interface BatchResult {
  readonly position: number;
  readonly applied: number;
  readonly repeats: number;
  readonly parked: number;
  readonly deadLetters: number;
  readonly gaps: number;
  /** Of every spool that the batch named. */
  readonly epochs: readonly AppliedEpoch[];
  /**
   * Of every node with news: its time of the newest applied event less Postgres' time, seconds. Above 0 the node's clock is
   * ahead; below 0 it is behind, or the event was long on its way.
   */
  readonly aheadSeconds: ReadonlyMap<string, number>;
}

/** The checkpoint is not where the batch begins: someone else has committed, or a stream was replaced. */
export class CheckpointMovedError extends CodedError {
  constructor(expected: StreamPosition, found: StreamPosition) {
    const text = ({ streamCreated, streamSeq }: StreamPosition) => `${streamSeq} of ${streamCreated ?? 'no stream'}`;
    super('CHECKPOINT_MOVED', `the checkpoint is at ${text(found)}, not at ${text(expected)}`);
  }
}

/** The checkpoint as it is now. */
export async function readCheckpoint(database: Database | DatabaseTransaction): Promise<StreamPosition> {
  const row = await database
    .selectFrom('event_checkpoint')
    .select(['stream_created', 'stream_seq'])
    .executeTakeFirstOrThrow();
  return { streamCreated: row.stream_created, streamSeq: row.stream_seq };
}

/**
 * Applies the messages between two checkpoints in one transaction: either all of it is committed, or nothing is. Throws
 * NotLeaderError, CheckpointMovedError, and whatever keeps Postgres from working; what is wrong with single events
 * throws nothing. `memory` is of the term; `fold` brings what follows from traffic up to date, or puts it off.
 */
export async function applyBatch(
  database: Database,
  ownerEpoch: number,
  from: StreamPosition,
  to: StreamPosition,
  messages: readonly StreamMessage[],
  memory: ProjectionMemory,
  fold: (trx: DatabaseTransaction) => Promise<unknown> = foldTraffic,
): Promise<BatchResult> {
  const read = messages.map(readMessage);
  try {
    return await database.transaction().execute((trx) => apply(trx, ownerEpoch, from, to, read, memory, fold));
  } catch (error) {
    memory.forget();
    throw error;
  }
}

async function apply(
  trx: DatabaseTransaction,
  ownerEpoch: number,
  from: StreamPosition,
  to: StreamPosition,
  read: readonly ReadMessage[],
  memory: ProjectionMemory,
  fold: (trx: DatabaseTransaction) => Promise<unknown>,
): Promise<BatchResult> {
  const incoming = read.flatMap(({ events }) => events);
  const unreadable = read.flatMap(({ deadLetters }) => deadLetters);
  await lockProjections(trx);
  await checkOwnerEpoch(trx, ownerEpoch);
  const before = await trx
    .selectFrom('event_checkpoint')
    .selectAll()
    .select(sql<number>`'connections'::regclass::oid::bigint`.as('tables'))
    .forUpdate()
    .executeTakeFirstOrThrow();
  memory.belongTo(before.tables);
  if (before.stream_created !== from.streamCreated || before.stream_seq !== from.streamSeq) {
    throw new CheckpointMovedError(from, { streamCreated: before.stream_created, streamSeq: before.stream_seq });
  }

  // All is looked up by key. Statistics lag behind tables that grow, and then a whole one is read for a few rows.
  await sql`SET LOCAL enable_seqscan = off`.execute(trx);
  const known = await loadEpochs(trx, incoming);
  const { loaded, absent } = await loadParked(trx, known, incoming);
  const result = sequence<IncomingEvent>(known, loaded, incoming, absent);
  const { position, deadLetters } = await applyEvents(trx, before.position, result.apply, memory);
  await fold(trx);
  await storeSequence(trx, result);
  await storeDeadLetters(trx, to.streamCreated, [...unreadable, ...deadLetters]);

  const { committed_at: committedAt } = await trx
    .updateTable('event_checkpoint')
    .set({
      owner_epoch: ownerEpoch,
      stream_created: to.streamCreated,
      stream_seq: to.streamSeq,
      position,
      committed_at: sql`now()`,
    })
    .returning(sql<Date>`committed_at`.as('committed_at'))
    .executeTakeFirstOrThrow();
  const aheadSeconds = new Map<string, number>();
  for (const { node, current, lastAt } of result.epochs) {
    const newest = current && lastAt !== null ? Date.parse(lastAt) : Number.NaN;
    if (Number.isFinite(newest)) aheadSeconds.set(node, (newest - committedAt.getTime()) / 1000);
  }
  const changed = new Map(result.epochs.map((state) => [`${state.node}/${state.epoch}`, state]));
  const named = new Set(incoming.map(({ node, epoch }) => `${node}/${epoch}`));
  for (const state of known) {
    const key = `${state.node}/${state.epoch}`;
    if (named.has(key) && !changed.has(key)) changed.set(key, state);
  }
  return {
    position,
    applied: position - before.position,
    repeats: result.repeats,
    parked: result.park.length,
    deadLetters: unreadable.length + deadLetters.length,
    gaps: result.gaps.length,
    epochs: [...changed.values()].map(({ node, epoch, appliedSeq }) => ({ node, epoch, appliedSeq })),
    aheadSeconds,
  };
}
