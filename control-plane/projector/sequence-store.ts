import { sql } from 'kysely';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows, overwrite } from '../storage/insert-rows.ts';
import type { Row } from '../storage/tables.ts';
import { fillGaps } from './fill-gaps.ts';
import type { DeadLetter, IncomingEvent } from './read-message.ts';
import type { EpochState, Gap, SequenceResult } from './sequence.ts';

/** The states of all spools of the nodes that are named, locked until the transaction ends. */
export async function loadEpochs(trx: DatabaseTransaction, incoming: readonly IncomingEvent[]): Promise<EpochState[]> {
  const nodes = [...new Set(incoming.map(({ node }) => node))];
  if (nodes.length === 0) return [];
  const isNamed = sql<boolean>`node = any(${nodes}::text[])`;
  const rows = await trx.selectFrom('node_epochs').selectAll().where(isNamed).forUpdate().execute();
  return rows.map(stateOf);
}

/** The states of spools that a parked event continues, locked until the transaction ends: an earlier batch had no time for it. */
export async function loadReadyEpochs(trx: DatabaseTransaction): Promise<EpochState[]> {
  const rows = await trx
    .selectFrom('node_epochs as e')
    .selectAll('e')
    .where(({ exists, selectFrom }) =>
      exists(
        selectFrom('parked_events as p')
          .select('p.seq')
          .whereRef('p.node', '=', 'e.node')
          .whereRef('p.epoch', '=', 'e.epoch')
          .where('p.seq', '=', sql<number>`e.applied_seq + 1`),
      ),
    )
    .forUpdate()
    .execute();
  return rows.map(stateOf);
}

function stateOf(row: Row<'node_epochs'>): EpochState {
  return {
    node: row.node,
    epoch: row.epoch,
    appliedSeq: row.applied_seq,
    current: row.current,
    firstAt: row.first_at?.toISOString() ?? null,
    lastAt: row.last_at?.toISOString() ?? null,
  };
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
