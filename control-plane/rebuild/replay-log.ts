import { sql } from 'kysely';
import { CodedError } from '../../shared/errors.ts';
import type { LogEntry } from '../log/log-entry.ts';
import { readEntries } from '../log/read-entries.ts';
import { foldTraffic } from '../projections/fold-traffic.ts';
import { projectEntries } from '../projections/project-entries.ts';
import { ProjectionMemory } from '../projections/projection-memory.ts';
import { PROJECTION_TABLES } from '../projections/projection-tables.ts';
import { isPoison } from '../projector/apply-events.ts';
import type { Database, DatabaseTransaction } from '../storage/database.ts';
import { ProjectionCopyError } from './projection-copy.ts';
import { useSchema } from './shadow-tables.ts';

/** Records in one transaction (ours): enough to be fast, few enough to be held in memory and done within a few seconds. */
const CHUNK_RECORDS = 50_000;
/** Events in the first chunk, before it is known how many records an event is, and the most in any. */
const FIRST_CHUNK_EVENTS = 1_000;
const MAX_CHUNK_EVENTS = 20_000;
/**
 * Records between two times that traffic is folded (ours): folding costs as much for a connection with one new window as for one
 * with many, but until then the unfolded rows are read where a connection of long ago is named.
 */
const FOLD_RECORDS = 2_000_000;
/** Memory for sorting and hashing them. */
const WORK_MEM = '64MB';

export interface ReplayOptions {
  /** The last position to project. */
  readonly through: number;
  readonly signal?: AbortSignal | undefined;
  readonly onChunk?: ((chunk: ReplayedChunk) => void) | undefined;
  /** Goes on where events are missing in the log, instead of throwing ProjectionCopyError. */
  readonly toleratesHoles?: boolean | undefined;
  /** Runs first in every transaction; what it throws ends the replay. */
  readonly guard?: ((trx: DatabaseTransaction) => Promise<void>) | undefined;
}

export interface ReplayedChunk {
  readonly position: number;
  readonly events: number;
  readonly records: number;
}

/** An event of the log cannot be projected any more, which is a bug of the projections. */
export class UnprojectableEventError extends CodedError {
  constructor({ position, event }: LogEntry, cause: unknown) {
    const { type, node, epoch, seq } = event;
    super('UNPROJECTABLE_EVENT', `position ${position}, ${type} ${node}/${epoch}/${seq}, cannot be projected`, {
      cause,
    });
  }
}

/**
 * Projects the log into a copy, from its position up to another, in transactions of some thousand events that each store
 * the position reached, so that it can go on after a crash. Returns the position. Throws UnprojectableEventError, and
 * ProjectionCopyError when someone else moves the same copy.
 */
export async function replayLog(
  database: Database,
  schema: string,
  from: number,
  options: ReplayOptions,
): Promise<number> {
  const { through, signal, onChunk } = options;
  let position = from;
  let limit = FIRST_CHUNK_EVENTS;
  const memory = new ProjectionMemory();
  let unfolded = Number.POSITIVE_INFINITY;
  let entries = await readEntries(database, position, limit, through);
  for (let last = entries.at(-1); last !== undefined; last = entries.at(-1)) {
    signal?.throwIfAborted();
    if (!options.toleratesHoles) refuseHoles(position, entries);
    const records = countRecords(entries);
    limit = Math.min(
      MAX_CHUNK_EVENTS,
      Math.max(1, Math.round((CHUNK_RECORDS * entries.length) / Math.max(records, 1))),
    );
    const done = entries;
    unfolded += records;
    const folds = unfolded >= FOLD_RECORDS;
    if (folds) unfolded = 0;
    [entries] = await Promise.all([
      readEntries(database, last.position, limit, through),
      projectRange(database, schema, position, done, memory, folds, options),
    ]);
    position = last.position;
    onChunk?.({ position, events: done.length, records });
  }
  if (position > from) await inCopy(database, schema, options, foldTraffic);
  return position;
}

function refuseHoles(after: number, entries: readonly LogEntry[]): void {
  const behind = entries.findIndex(({ position }, index) => position !== after + 1 + index);
  if (behind < 0) return;
  const to = (entries[behind]?.position ?? 0) - 1;
  throw new ProjectionCopyError(`events are missing in the log, from position ${after + 1 + behind} to ${to}`);
}

/** What a rate is counted in: a connection event is one record, a traffic window as many as it has connections. */
export function countRecords(entries: readonly LogEntry[]): number {
  return entries.reduce(
    (sum, { event }) => sum + (event.type === 'traffic.sampled' ? event.data.samples.connectionId.length : 1),
    0,
  );
}

/** Projects entries into a copy that is at `from`, in the caller's transaction. */
export async function projectInto(
  trx: DatabaseTransaction,
  schema: string,
  from: number,
  entries: readonly LogEntry[],
): Promise<void> {
  const last = entries.at(-1);
  if (last === undefined) return;
  await useSchema(trx, schema);
  await moveCopy(trx, schema, from, last.position);
  await projectEntries(trx, entries);
  await foldTraffic(trx);
}

async function inCopy(
  database: Database,
  schema: string,
  { guard }: ReplayOptions,
  work: (trx: DatabaseTransaction) => Promise<unknown>,
): Promise<void> {
  await database.transaction().execute(async (trx) => {
    await guard?.(trx);
    // What a crash of Postgres loses is projected again: the position is lost with it.
    await sql`SET LOCAL synchronous_commit = off`.execute(trx);
    await sql`SET LOCAL statement_timeout = 0`.execute(trx);
    await sql`SET LOCAL work_mem = ${sql.lit(WORK_MEM)}`.execute(trx);
    await useSchema(trx, schema);
    await work(trx);
  });
}

async function moveCopy(trx: DatabaseTransaction, schema: string, from: number, to: number): Promise<void> {
  const { numUpdatedRows } = await trx
    .updateTable('projection_copies')
    .set({ position: to, updated_at: sql`now()` })
    .where('schema', '=', schema)
    .where('position', '=', from)
    .executeTakeFirstOrThrow();
  if (numUpdatedRows !== 1n) throw new ProjectionCopyError(`the copy in schema "${schema}" is not at ${from} any more`);
  for (const { partitionedBy } of PROJECTION_TABLES) {
    if (partitionedBy !== undefined) await sql`SELECT ${sql.id(partitionedBy)}(${from + 1}::bigint)`.execute(trx);
  }
}

/** Halves what cannot be projected, so that the error names the event. */
async function projectRange(
  database: Database,
  schema: string,
  from: number,
  entries: readonly LogEntry[],
  memory: ProjectionMemory,
  folds: boolean,
  options: ReplayOptions,
): Promise<void> {
  const first = entries[0];
  const last = entries.at(-1);
  if (first === undefined || last === undefined) return;
  let refusal: unknown;
  try {
    await inCopy(database, schema, options, async (trx) => {
      await moveCopy(trx, schema, from, last.position);
      try {
        await projectEntries(trx, entries, memory);
        if (folds) await foldTraffic(trx);
      } catch (error) {
        refusal = error;
        throw error;
      }
    });
  } catch (error) {
    memory.forget();
    if (error !== refusal || !isPoison(error)) throw error;
    if (entries.length === 1) throw new UnprojectableEventError(first, error);
    const half = entries.length >> 1;
    const middle = entries[half - 1]?.position ?? from;
    await projectRange(database, schema, from, entries.slice(0, half), memory, folds, options);
    await projectRange(database, schema, middle, entries.slice(half), memory, folds, options);
  }
}
