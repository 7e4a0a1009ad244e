import { sql } from 'kysely';
import type { EventEnvelope } from '../../shared/events/envelope.ts';
import { MAX_UNCOMMITTED_EVENTS } from '../../shared/nats/messages.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type IncomingEvent, incomingEvent } from './read-message.ts';
import { type EpochState, endOfRun, type ParkedEvents, type SequenceKey, spoolKey } from './sequence.ts';

/** Ours: parked events that one transaction releases, about as much work as a batch has. The rest waits for the next one. */
export const MAX_RELEASED = 500;

/** The spools of which a batch needs what is parked, with the numbers that it brings. */
interface Wanted {
  readonly state: EpochState;
  readonly incoming: ReadonlySet<number>;
  /** Its node has a new spool: everything that was parked is released. */
  readonly isReplaced: boolean;
}

/**
 * What a batch needs of the parked events, in rows that do not grow with their number while they wait: keys of those that it
 * repeats; once the next event of a spool is there, all keys of that spool, and the events up to the first hole. Of a replaced
 * spool all; those that have too many of them (`findCrowded`) are another matter.
 */
export async function loadParked(
  trx: DatabaseTransaction,
  known: readonly EpochState[],
  incoming: readonly IncomingEvent[],
): Promise<ParkedEvents<IncomingEvent>> {
  const wanted = wantedSpools(known, incoming);
  const stored = await loadKeys(trx, wanted);
  let room = MAX_RELEASED;
  const ranges = wanted.flatMap(({ state, incoming: seqs, isReplaced }) => {
    const { node, epoch, appliedSeq } = state;
    const from = appliedSeq + 1;
    if (isReplaced) return [{ node, epoch, from, to: Number.MAX_SAFE_INTEGER }];
    const keys = stored.get(spoolKey(state)) ?? new Set();
    const end = endOfRun(appliedSeq, seqs.union(keys));
    const released = [...keys].filter((seq) => seq >= from && seq <= end).sort((a, b) => a - b);
    const to = released.slice(0, room).at(-1);
    room -= Math.min(room, released.length);
    return to === undefined ? [] : [{ node, epoch, from, to }];
  });
  const loaded = await loadRanges(trx, ranges);
  for (const event of loaded) stored.get(spoolKey(event))?.delete(event.seq);
  return { loaded, absent: keysOf(wanted, stored), counts: await countParked(trx, wanted), draining: new Map() };
}

/** What is parked and continues spools, as much of it as one transaction takes. */
export async function loadReady(
  trx: DatabaseTransaction,
  ready: readonly EpochState[],
): Promise<ParkedEvents<IncomingEvent>> {
  const loaded: IncomingEvent[] = [];
  const absent: SequenceKey[] = [];
  for (const state of ready) {
    const { node, epoch, appliedSeq } = state;
    const run = await loadRun(trx, state, MAX_RELEASED - loaded.length);
    loaded.push(...run);
    if (loaded.length < MAX_RELEASED) continue;
    absent.push(...(await loadKey(trx, { node, epoch, seq: appliedSeq + run.length + 1 })));
    if (absent.length > 0) break;
  }
  return { loaded, absent, counts: new Map(), draining: new Map() };
}

/**
 * Spools that the batch replaces and of which more is parked than one transaction releases, by their node, with the epochs
 * that replace them.
 */
export async function findCrowded(
  trx: DatabaseTransaction,
  known: readonly EpochState[],
  incoming: readonly IncomingEvent[],
): Promise<ReadonlyMap<string, { readonly state: EpochState; readonly replacedBy: string }>> {
  const newEpochs = newEpochsOf(known, incoming);
  const crowded = new Map<string, { state: EpochState; replacedBy: string }>();
  for (const state of known) {
    const replacedBy = state.current ? newEpochs.get(state.node) : undefined;
    if (replacedBy === undefined) continue;
    const { rows } = await sql`
      SELECT FROM parked_events WHERE node = ${state.node} AND epoch = ${state.epoch}
      OFFSET ${MAX_RELEASED} LIMIT 1`.execute(trx);
    if (rows.length > 0) crowded.set(state.node, { state, replacedBy });
  }
  return crowded;
}

/** The first of what is parked of spools that are to be replaced, as much as one transaction releases. */
export async function loadDraining(
  trx: DatabaseTransaction,
  crowded: ReadonlyArray<{ readonly state: EpochState; readonly replacedBy: string }>,
): Promise<ParkedEvents<IncomingEvent>> {
  const loaded: IncomingEvent[] = [];
  for (const { state } of crowded) loaded.push(...(await loadFirst(trx, state, MAX_RELEASED - loaded.length)));
  const draining = new Map(crowded.map(({ state, replacedBy }) => [spoolKey(state), replacedBy]));
  return { loaded, absent: [], counts: new Map(), draining };
}

/** By node, the first epoch of it that is not known. */
function newEpochsOf(known: readonly EpochState[], incoming: readonly IncomingEvent[]): Map<string, string> {
  const isKnown = new Set(known.map(spoolKey));
  const newEpochs = new Map<string, string>();
  for (const event of incoming) {
    if (!isKnown.has(spoolKey(event)) && !newEpochs.has(event.node)) newEpochs.set(event.node, event.epoch);
  }
  return newEpochs;
}

function wantedSpools(known: readonly EpochState[], incoming: readonly IncomingEvent[]): Wanted[] {
  const named = new Map<string, Set<number>>();
  for (const event of incoming) {
    const seqs = named.get(spoolKey(event)) ?? new Set();
    named.set(spoolKey(event), seqs.add(event.seq));
  }
  const replaced = newEpochsOf(known, incoming);
  return known.flatMap((state) => {
    const isReplaced = state.current && replaced.has(state.node);
    const seqs = named.get(spoolKey(state));
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
  for (const key of rows) keys.set(spoolKey(key), (keys.get(spoolKey(key)) ?? new Set()).add(key.seq));
  return keys;
}

function keysOf(wanted: readonly Wanted[], stored: ReadonlyMap<string, ReadonlySet<number>>): SequenceKey[] {
  return wanted.flatMap(({ state: { node, epoch } }) =>
    [...(stored.get(spoolKey({ node, epoch })) ?? [])].map((seq) => ({ node, epoch, seq })),
  );
}

/** Of spools with an event so far ahead that there may be too many. What is nearer has room, however many there are. */
async function countParked(trx: DatabaseTransaction, wanted: readonly Wanted[]): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const { state, incoming } of wanted) {
    const { node, epoch, appliedSeq } = state;
    if (Math.max(...incoming) <= appliedSeq + MAX_UNCOMMITTED_EVENTS) continue;
    const { rows } = await sql<{ count: number }>`
      SELECT count(*) AS count FROM parked_events WHERE node = ${node} AND epoch = ${epoch}`.execute(trx);
    counts.set(spoolKey(state), rows[0]?.count ?? 0);
  }
  return counts;
}

interface ParkedRange {
  readonly node: string;
  readonly epoch: string;
  readonly from: number;
  readonly to: number;
}

type ParkedRow = SequenceKey & { readonly envelope: EventEnvelope; readonly stream_seq: number };

async function loadRanges(trx: DatabaseTransaction, ranges: readonly ParkedRange[]): Promise<IncomingEvent[]> {
  if (ranges.length === 0) return [];
  const { rows } = await sql<ParkedRow>`
    SELECT p.node, p.epoch, p.seq, p.envelope, p.stream_seq
    FROM unnest(${column(ranges, 'node')}::text[], ${column(ranges, 'epoch')}::text[],
      ${column(ranges, 'from')}::bigint[], ${column(ranges, 'to')}::bigint[]) AS s (node, epoch, first, last)
    JOIN parked_events p ON p.node = s.node AND p.epoch = s.epoch AND p.seq BETWEEN s.first AND s.last`.execute(trx);
  return rows.map(eventOf);
}

async function loadFirst(
  trx: DatabaseTransaction,
  { node, epoch, appliedSeq }: EpochState,
  limit: number,
): Promise<IncomingEvent[]> {
  if (limit === 0) return [];
  const { rows } = await sql<ParkedRow>`
    SELECT node, epoch, seq, envelope, stream_seq FROM parked_events
    WHERE node = ${node} AND epoch = ${epoch} AND seq > ${appliedSeq} ORDER BY seq LIMIT ${limit}`.execute(trx);
  return rows.map(eventOf);
}

/** Up to the first hole. */
async function loadRun(
  trx: DatabaseTransaction,
  { node, epoch, appliedSeq }: EpochState,
  limit: number,
): Promise<IncomingEvent[]> {
  if (limit === 0) return [];
  const { rows } = await sql<ParkedRow>`
    SELECT node, epoch, seq, envelope, stream_seq FROM (
      SELECT *, row_number() OVER (ORDER BY seq) AS number FROM parked_events
      WHERE node = ${node} AND epoch = ${epoch} AND seq > ${appliedSeq} ORDER BY seq LIMIT ${limit}
    ) first WHERE seq = ${appliedSeq} + number`.execute(trx);
  return rows.map(eventOf);
}

async function loadKey(trx: DatabaseTransaction, { node, epoch, seq }: SequenceKey): Promise<SequenceKey[]> {
  const { rows } = await sql<SequenceKey>`
    SELECT node, epoch, seq FROM parked_events
    WHERE node = ${node} AND epoch = ${epoch} AND seq = ${seq}`.execute(trx);
  return rows;
}

const eventOf = ({ envelope, stream_seq: streamSeq }: ParkedRow) => incomingEvent(envelope, streamSeq, null);

function column<T, K extends keyof T>(rows: readonly T[], key: K): T[K][] {
  return rows.map((row) => row[key]);
}
