import { sql } from 'kysely';
import { CodedError } from '../../shared/errors.ts';
import { MAX_UNCOMMITTED_EVENTS } from '../../shared/nats/messages.ts';
import { foldTraffic } from '../projections/fold-traffic.ts';
import type { ProjectionMemory } from '../projections/projection-memory.ts';
import type { Database, DatabaseTransaction } from '../storage/database.ts';
import { checkOwnerEpoch, lockProjections } from '../storage/projection-lock.ts';
import { applyEvents } from './apply-events.ts';
import { findCrowded, loadDraining, loadParked, loadReady } from './parked-store.ts';
import type { IncomingEvent, ReadMessage } from './read-message.ts';
import { type EpochState, type SequenceResult, sequence, spoolKey } from './sequence.ts';
import { loadEpochs, loadReadyEpochs, storeDeadLetters, storeSequence } from './sequence-store.ts';

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
  /** Events for which there is no room among those that wait for an earlier one. */
  readonly refused: number;
  /**
   * Of every spool that the batch named, but for those of which something was refused and nothing applied: their nodes would send it
   * again at once.
   */
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

/** How a batch is worked on. */
export interface BatchWork {
  /** Of the term. */
  readonly memory: ProjectionMemory;
  /** Brings what follows from traffic up to date, or puts it off. */
  readonly fold?: (trx: DatabaseTransaction) => Promise<unknown>;
  /** What can be done while Postgres writes. */
  readonly meanwhile?: (() => Promise<void>) | undefined;
}

/** What one transaction has done of a batch. */
interface BatchPart {
  readonly result: BatchResult;
  /** Messages of those that were left. */
  readonly done: number;
  readonly at: StreamPosition;
  /** What was parked and waits for nothing any more. */
  readonly isMoreReady: boolean;
}

/**
 * Applies the messages between two checkpoints in one transaction: either all of it is committed, or nothing is. Only where more
 * parked events are to be released than a transaction takes there are several, each of which is a whole step by itself. Throws
 * NotLeaderError, CheckpointMovedError, and whatever keeps Postgres from working; what is wrong with single events
 * throws nothing.
 */
export async function applyBatch(
  database: Database,
  ownerEpoch: number,
  from: StreamPosition,
  to: StreamPosition,
  messages: readonly ReadMessage[],
  work: BatchWork,
): Promise<BatchResult> {
  let left = messages;
  let at = from;
  let total: BatchResult | undefined;
  let isMoreReady = false;
  try {
    do {
      const part = await database.transaction().execute((trx) => applyPart(trx, ownerEpoch, at, to, left, work));
      total = total === undefined ? part.result : sum(total, part.result);
      // Without messages it is all ready ones of all spools that are looked for.
      isMoreReady = part.isMoreReady || (isMoreReady && left.length > 0);
      at = part.at;
      left = left.slice(part.done);
    } while (left.length > 0 || isMoreReady);
    return total;
  } catch (error) {
    work.memory.forget();
    throw error;
  }
}

async function applyPart(
  trx: DatabaseTransaction,
  ownerEpoch: number,
  from: StreamPosition,
  to: StreamPosition,
  left: readonly ReadMessage[],
  { memory, fold = foldTraffic, meanwhile }: BatchWork,
): Promise<BatchPart> {
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
  const { known, result, done, incoming } = await sequencePart(trx, left);
  const at = done === left.length ? to : { ...to, streamSeq: left[done - 1]?.streamSeq ?? from.streamSeq };
  const unreadable = left.slice(0, done).flatMap(({ deadLetters }) => deadLetters);
  const { position, deadLetters } = await applyEvents(trx, before.position, result.apply, memory, meanwhile);
  await fold(trx);
  await storeSequence(trx, result);
  await storeDeadLetters(trx, to.streamCreated, [...unreadable, ...deadLetters]);

  const { committed_at: committedAt } = await trx
    .updateTable('event_checkpoint')
    .set({
      owner_epoch: ownerEpoch,
      stream_created: at.streamCreated,
      stream_seq: at.streamSeq,
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
  return {
    result: {
      position,
      applied: position - before.position,
      repeats: result.repeats,
      parked: result.park.length,
      deadLetters: unreadable.length + deadLetters.length,
      gaps: result.gaps.length,
      refused: result.refused.length,
      epochs: appliedEpochs(known, incoming, result),
      aheadSeconds,
    },
    done,
    at,
    isMoreReady: result.isMoreReady,
  };
}

interface SequencedPart {
  readonly known: readonly EpochState[];
  readonly result: SequenceResult<IncomingEvent>;
  readonly done: number;
  /** Of the messages that are done. */
  readonly incoming: readonly IncomingEvent[];
}

/**
 * Sequences as many of the messages as one transaction takes. Before a spool is replaced of which much is parked, that is released
 * step by step.
 */
async function sequencePart(trx: DatabaseTransaction, left: readonly ReadMessage[]): Promise<SequencedPart> {
  if (left.length === 0) {
    const known = await loadReadyEpochs(trx);
    const result = sequence(known, await loadReady(trx, known), [], MAX_UNCOMMITTED_EVENTS);
    return { known, result, done: 0, incoming: [] };
  }
  const all = left.flatMap(({ events }) => events);
  const known = await loadEpochs(trx, all);
  const crowded = await findCrowded(trx, known, all);
  const replaces = ({ node, epoch }: IncomingEvent) => crowded.get(node)?.replacedBy === epoch;
  const first = crowded.size === 0 ? -1 : left.findIndex(({ events }) => events.some(replaces));
  const done = first < 0 ? left.length : first;
  const incoming = done === left.length ? all : left.slice(0, done).flatMap(({ events }) => events);
  const parked = done === 0 ? await loadDraining(trx, [...crowded.values()]) : await loadParked(trx, known, incoming);
  return { known, result: sequence(known, parked, incoming, MAX_UNCOMMITTED_EVENTS), done, incoming };
}

function appliedEpochs(
  known: readonly EpochState[],
  incoming: readonly IncomingEvent[],
  { epochs, refused }: SequenceResult<IncomingEvent>,
): AppliedEpoch[] {
  const told = new Map(epochs.map((state) => [spoolKey(state), state]));
  const silent = new Set(refused.map(spoolKey));
  const named = new Set(incoming.map(spoolKey));
  for (const state of known) {
    const key = spoolKey(state);
    if (named.has(key) && !told.has(key) && !silent.has(key)) told.set(key, state);
  }
  return [...told.values()].map(({ node, epoch, appliedSeq }) => ({ node, epoch, appliedSeq }));
}

function sum(a: BatchResult, b: BatchResult): BatchResult {
  const epochs = new Map([...a.epochs, ...b.epochs].map((applied) => [spoolKey(applied), applied]));
  return {
    position: b.position,
    applied: a.applied + b.applied,
    repeats: a.repeats + b.repeats,
    parked: a.parked + b.parked,
    deadLetters: a.deadLetters + b.deadLetters,
    gaps: a.gaps + b.gaps,
    refused: a.refused + b.refused,
    epochs: [...epochs.values()],
    aheadSeconds: new Map([...a.aheadSeconds, ...b.aheadSeconds]),
  };
}
