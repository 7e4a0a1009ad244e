import { sql } from 'kysely';
import type { DatabaseTransaction } from '../storage/database.ts';
import { UnstorableValueError } from '../storage/encode-array.ts';
import { type Column, insertRows } from '../storage/insert-rows.ts';
import type { LogEntry } from './log-entry.ts';

const COLUMNS: Readonly<Record<string, Column<LogEntry>>> = {
  position: { type: 'bigint', value: (row) => row.position },
  node: { type: 'text', value: ({ event }) => event.node },
  epoch: { type: 'text', value: ({ event }) => event.epoch },
  seq: { type: 'bigint', value: ({ event }) => event.seq },
  incarnation: { type: 'text', value: ({ event }) => event.incarnation },
  type: { type: 'text', value: ({ event }) => event.type },
  version: { type: 'smallint', value: ({ event, written }) => (written ?? event).version },
  at: { type: 'timestamptz', value: ({ event }) => event.at },
  stream_seq: { type: 'bigint', value: (row) => row.streamSeq },
  retry_of: { type: 'bigint', value: (row) => row.retryOf ?? null },
  // Last, so that the message to Postgres, which grows with each column, need not grow behind the largest.
  data: { type: 'json', value: ({ event, written }) => storableJson((written ?? event).data) },
};

/** What JSON can say of text and Postgres cannot store as text: NUL, and halves of surrogate pairs. */
const UNSTORABLE_TEXT = /(?<!\\)(?:\\\\)*(\\u(?:0000|d[89a-f]..))/;

/** Throws UnstorableValueError: a question about such an event would fail, and with it all others that the question is about. */
function storableJson(data: object): string {
  const json = JSON.stringify(data);
  const found = UNSTORABLE_TEXT.exec(json)?.[1];
  if (found !== undefined) throw new UnstorableValueError('text', found);
  return json;
}

/** Positions between two looks at the partitions; far less than one of them holds, so that they are made ahead. */
const PARTITION_CHECK_INTERVAL = 100_000;

/** Ours: so many entries go ahead of the others, so that Postgres has work while those are put together. */
const ENTRIES_AHEAD = 256;

/** Statements that write entries to the log, each as it was written first. */
export function* appendEntries(
  trx: DatabaseTransaction,
  entries: readonly LogEntry[],
): Generator<() => Promise<unknown>, void, undefined> {
  const first = entries[0]?.position;
  const last = entries.at(-1)?.position;
  if (first === undefined || last === undefined) return;
  const interval = (position: number) => Math.floor(position / PARTITION_CHECK_INTERVAL);
  if (interval(last) !== interval(first - 1)) {
    yield () => sql`SELECT ensure_event_partitions(${last}::bigint)`.execute(trx);
  }
  yield () => insertRows(trx, 'events', COLUMNS, entries.slice(0, ENTRIES_AHEAD));
  yield () => insertRows(trx, 'events', COLUMNS, entries.slice(ENTRIES_AHEAD));
}
