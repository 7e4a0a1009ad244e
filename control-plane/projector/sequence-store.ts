import { sql } from 'kysely';
import type { EventEnvelope } from '../../shared/events/envelope.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows, overwrite } from '../storage/insert-rows.ts';
import { fillGaps } from './fill-gaps.ts';
import type { DeadLetter, IncomingEvent } from './read-message.ts';
import { type EpochState, endOfRun, type Gap, type SequenceKey, type SequenceResult } from './sequence.ts';

/** The states of all spools of the nodes that are named, locked until the transaction ends. */
export async function loadEpochs(trx: DatabaseTransaction, incoming: readonly IncomingEvent[]): Promise<EpochState[]> {
  const nodes = [...new Set(incoming.map(({ node }) => node))];
  if (nodes.length === 0) return [];
  const rows = await trx.selectFrom('node_epochs').selectAll().where('node', 'in', nodes).forUpdate().execute();
  return rows.map((row) => ({
    node: row.node,
    epoch: row.epoch,
    appliedSeq: row.applied_seq,
    current: row.current,
    firstAt: row.first_at?.toISOString() ?? null,
    lastAt: row.last_at?.toISOString() ?? null,
  }));
}

export interface ParkedEvents {
  /** Those that the batch releases. */
  readonly loaded: readonly IncomingEvent[];
  /** Others that it repeats, or of which it was asked whether they follow. */
  readonly absent: readonly SequenceKey[];
}

interface Wanted {
  readonly state: EpochState;
  readonly incoming: Set<number>;
  /** Its node has a new spool: everything that was parked is released. */
  readonly isReplaced: boolean;
}

/**
 * What a batch needs of the parked events, in rows that do not grow with their number while they wait: keys of those that it
 * repeats; once the next event of a spool is there, all keys of that spool, and the events up to the first hole.
 */
export async function loadParked(
  trx: DatabaseTransaction,
  known: readonly EpochState[],
  incoming: readonly IncomingEvent[],
): Promise<ParkedEvents> {
  const wanted = wantedSpools(known, incoming);
  const stored = await loadKeys(trx, wanted);
  const ranges = wanted.flatMap(({ state, incoming: seqs, isReplaced }) => {
    const { node, epoch, appliedSeq } = state;
    if (isReplaced) return [{ node, epoch, from: appliedSeq + 1, to: Number.MAX_SAFE_INTEGER }];
    const to = endOfRun(appliedSeq, seqs.union(stored.get(keyOf(state)) ?? new Set()));
    return to > appliedSeq ? [{ node, epoch, from: appliedSeq + 1, to }] : [];
  });
  const loaded = await loadRanges(trx, ranges);
  for (const event of loaded) stored.get(keyOf(event))?.delete(event.seq);
  const absent = wanted.flatMap(({ state: { node, epoch } }) =>
    [...(stored.get(keyOf({ node, epoch })) ?? [])].map((seq) => ({ node, epoch, seq })),
  );
  return { loaded, absent };
}

function wantedSpools(known: readonly EpochState[], incoming: readonly IncomingEvent[]): Wanted[] {
  const named = new Map<string, Set<number>>();
  for (const event of incoming) {
    const seqs = named.get(keyOf(event)) ?? new Set();
    named.set(keyOf(event), seqs.add(event.seq));
  }
  const isKnown = new Set(known.map(keyOf));
  const replaced = new Set(incoming.filter((event) => !isKnown.has(keyOf(event))).map(({ node }) => node));
  return known.flatMap((state) => {
    const isReplaced = state.current && replaced.has(state.node);
    const seqs = named.get(keyOf(state));
    return seqs !== undefined || isReplaced ? [{ state, incoming: seqs ?? new Set(), isReplaced }] : [];
  });
}

/** By spool: of those whose next event comes, all keys; of the others those that come again. */
async function loadKeys(trx: DatabaseTransaction, wanted: readonly Wanted[]): Promise<Map<string, Set<number>>> {
  const isFilled = ({ state, incoming }: Wanted) => incoming.has(state.appliedSeq + 1);
  const filled = wanted.filter((spool) => isFilled(spool) && !spool.isReplaced).map(({ state }) => state);
  const repeated = wanted
    .filter((spool) => !isFilled(spool) && !spool.isReplaced)
    .flatMap(({ state: { node, epoch }, incoming }) => [...incoming].map((seq) => ({ node, epoch, seq })));
  const keys = new Map<string, Set<number>>();
  if (filled.length === 0 && repeated.length === 0) return keys;
  const { rows } = await sql<SequenceKey>`
    SELECT p.node, p.epoch, p.seq
    FROM unnest(${column(filled, 'node')}::text[], ${column(filled, 'epoch')}::text[]) AS s (node, epoch)
    JOIN parked_events p ON p.node = s.node AND p.epoch = s.epoch
    UNION ALL
    SELECT p.node, p.epoch, p.seq
    FROM unnest(${column(repeated, 'node')}::text[], ${column(repeated, 'epoch')}::text[],
      ${column(repeated, 'seq')}::bigint[]) AS s (node, epoch, seq)
    JOIN parked_events p ON p.node = s.node AND p.epoch = s.epoch AND p.seq = s.seq`.execute(trx);
  for (const key of rows) keys.set(keyOf(key), (keys.get(keyOf(key)) ?? new Set()).add(key.seq));
  return keys;
}

interface ParkedRange {
  readonly node: string;
  readonly epoch: string;
  readonly from: number;
  readonly to: number;
}

async function loadRanges(trx: DatabaseTransaction, ranges: readonly ParkedRange[]): Promise<IncomingEvent[]> {
  if (ranges.length === 0) return [];
  const { rows } = await sql<SequenceKey & { envelope: EventEnvelope; stream_seq: number }>`
    SELECT p.node, p.epoch, p.seq, p.envelope, p.stream_seq
    FROM unnest(${column(ranges, 'node')}::text[], ${column(ranges, 'epoch')}::text[],
      ${column(ranges, 'from')}::bigint[], ${column(ranges, 'to')}::bigint[]) AS s (node, epoch, first, last)
    JOIN parked_events p ON p.node = s.node AND p.epoch = s.epoch AND p.seq BETWEEN s.first AND s.last`.execute(trx);
  return rows.map(({ node, epoch, seq, envelope, stream_seq: streamSeq }) => {
    return { node, epoch, seq, at: envelope.at, streamSeq, subject: null, envelope };
  });
}

function column<T, K extends keyof T>(rows: readonly T[], key: K): T[K][] {
  return rows.map((row) => row[key]);
}

function keyOf({ node, epoch }: { readonly node: string; readonly epoch: string }): string {
  return `${node}/${epoch}`;
}

const EPOCH_COLUMNS: Readonly<Record<string, Column<EpochState>>> = {
  node: { type: 'text', value: (row) => row.node },
  epoch: { type: 'text', value: (row) => row.epoch },
  applied_seq: { type: 'bigint', value: (row) => row.appliedSeq },
  current: { type: 'boolean', value: (row) => row.current },
  first_at: { type: 'timestamptz', value: (row) => storableTime(row.firstAt) },
  last_at: { type: 'timestamptz', value: (row) => storableTime(row.lastAt) },
};

const PARKED_COLUMNS: Readonly<Record<string, Column<IncomingEvent>>> = {
  node: { type: 'text', value: (row) => row.node },
  epoch: { type: 'text', value: (row) => row.epoch },
  seq: { type: 'bigint', value: (row) => row.seq },
  envelope: { type: 'json', value: (row) => JSON.stringify(row.envelope) },
  stream_seq: { type: 'bigint', value: (row) => row.streamSeq },
};

const GAP_COLUMNS: Readonly<Record<string, Column<Gap>>> = {
  node: { type: 'text', value: (row) => row.node },
  epoch: { type: 'text', value: (row) => row.epoch },
  from_seq: { type: 'bigint', value: (row) => row.fromSeq },
  to_seq: { type: 'bigint', value: (row) => row.toSeq },
  replaced_by: { type: 'text', value: (row) => row.replacedBy },
};

/** Stores what `sequence` found, but for the events to apply. */
export async function storeSequence(trx: DatabaseTransaction, result: SequenceResult<IncomingEvent>): Promise<void> {
  // A node's old spool stops being the current one before its new one becomes it.
  const ordered = [...result.epochs].sort((a, b) => Number(a.current) - Number(b.current));
  const former = ordered.filter(({ current }) => !current);
  await fillGaps(trx, former);
  await insertRows(trx, 'node_epochs', EPOCH_COLUMNS, former, overwrite(['node', 'epoch'], EPOCH_COLUMNS));
  const current = ordered.slice(former.length);
  await insertRows(trx, 'node_epochs', EPOCH_COLUMNS, current, overwrite(['node', 'epoch'], EPOCH_COLUMNS));
  if (result.unpark.length > 0) {
    const of = <K extends 'node' | 'epoch' | 'seq'>(key: K) => result.unpark.map((event) => event[key]);
    await sql`
      DELETE FROM parked_events p
      USING unnest(${of('node')}::text[], ${of('epoch')}::text[], ${of('seq')}::bigint[]) AS u (node, epoch, seq)
      WHERE p.node = u.node AND p.epoch = u.epoch AND p.seq = u.seq`.execute(trx);
  }
  await insertRows(trx, 'parked_events', PARKED_COLUMNS, result.park);
  await insertRows(trx, 'event_gaps', GAP_COLUMNS, result.gaps);
}

const dead = (column: keyof NonNullable<DeadLetter['event']>) => (row: DeadLetter) => row.event?.[column] ?? null;

/** Sets aside what could not be applied. */
export async function storeDeadLetters(
  trx: DatabaseTransaction,
  streamCreated: string | null,
  letters: readonly DeadLetter[],
): Promise<void> {
  await insertRows<DeadLetter>(
    trx,
    'dead_letter',
    {
      node: { type: 'text', value: dead('node') },
      epoch: { type: 'text', value: dead('epoch') },
      seq: { type: 'bigint', value: dead('seq') },
      type: { type: 'text', value: (row) => storableText(row.event?.type ?? null) },
      subject: { type: 'text', value: (row) => storableText(row.subject) },
      stream_created: { type: 'text', value: () => streamCreated },
      stream_seq: { type: 'bigint', value: (row) => row.streamSeq },
      payload: { type: 'bytea', value: (row) => Buffer.from(row.payload) },
      error_code: { type: 'text', value: (row) => row.errorCode },
      error: { type: 'text', value: (row) => storableText(row.error) },
    },
    letters,
  );
}

/** Postgres takes no NUL in text; whoever sends one must not stop the rest with it. */
export function storableText<T extends string | null>(text: T): T {
  return (text?.replaceAll('\0', '\uFFFD') ?? null) as T;
}

/** Postgres has no year 0. */
const EARLIEST_MS = Date.parse('0001-01-01T00:00:00.000Z');

/** Envelopes are ordered before their times are checked. */
function storableTime(text: string | null): string | null {
  const ms = Date.parse(text ?? '');
  return ms >= EARLIEST_MS ? new Date(ms).toISOString() : null;
}
