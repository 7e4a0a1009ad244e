import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import type { Database } from '../../../control-plane/storage/database.ts';
import { type Column, unnestOf } from '../../../control-plane/storage/insert-rows.ts';
import { startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';

let postgres: TestPostgres;
let database: Database;
before(async () => {
  postgres = await startTestPostgres();
  database = await postgres.database();
});
after(async () => postgres.stop());

/** What Postgres makes of values of a type, as text. */
async function stored(type: string, values: readonly unknown[]): Promise<(string | null)[]> {
  const columns: Record<string, Column<unknown>> = { value: { type, value: (value) => value } };
  const { rows } = await sql<{ text: string | null }>`
    SELECT value::${sql.raw(type)}::text AS text FROM ${unnestOf(columns, values)} AS rows (value)`.execute(database);
  return rows.map(({ text }) => text);
}

test('values of every type arrive as they are, nulls among them', async () => {
  const cases: Record<string, readonly (readonly [unknown, string])[]> = {
    text: [
      ['', ''],
      ['NULL', 'NULL'],
      ['a "quoted" \\ {brace}, ü, 💡', 'a "quoted" \\ {brace}, ü, 💡'],
      ['ü', 'ü'],
      ['x'.repeat(100_000), 'x'.repeat(100_000)],
      ['💡'.repeat(2_000_000), '💡'.repeat(2_000_000)],
    ],
    jsonb: [['{"a": [1, "\\u00fc\\""]}', '{"a": [1, "ü\\""]}']],
    json: [['{"a":  1}', '{"a":  1}']],
    boolean: [
      [true, 'true'],
      [false, 'false'],
    ],
    smallint: [[-32_768, '-32768']],
    integer: [[2_147_483_647, '2147483647']],
    bigint: [
      [0, '0'],
      [-1, '-1'],
      [2 ** 32, '4294967296'],
      [Number.MAX_SAFE_INTEGER, '9007199254740991'],
      [Number.MIN_SAFE_INTEGER, '-9007199254740991'],
      [2n ** 63n - 1n, '9223372036854775807'],
    ],
    'double precision': [
      [0.1, '0.1'],
      [-1e300, '-1e+300'],
    ],
    timestamptz: [
      ['2026-03-02T12:00:00.123Z', '2026-03-02 12:00:00.123+00'],
      [new Date('1969-12-31T23:59:59.999Z'), '1969-12-31 23:59:59.999+00'],
      ['0001-01-01T00:00:00.000Z', '0001-01-01 00:00:00+00'],
      ['9999-12-31T23:59:59.999Z', '9999-12-31 23:59:59.999+00'],
      [Date.UTC(1999, 11, 31), '1999-12-31 00:00:00+00'],
    ],
    uuid: [['00000000-0000-4000-8000-00000000ABcd', '00000000-0000-4000-8000-00000000abcd']],
    bytea: [[Buffer.from([0, 255]), '\\x00ff']],
    inet: [['fd00::1', 'fd00::1/128']],
    cidr: [['10.0.0.0/8', '10.0.0.0/8']],
    numeric: [['123456789012345678901234567890.5', '123456789012345678901234567890.5']],
    tstzrange: [
      [{ from: Date.UTC(2026, 2, 2), until: null }, '["2026-03-02 00:00:00+00",)'],
      [{ from: 0, until: 0.9 + 1 }, '["1970-01-01 00:00:00+00","1970-01-01 00:00:00.001+00")'],
    ],
    'bigint[]': [['{1,2}', '{1,2}']],
  };
  for (const [type, pairs] of Object.entries(cases)) {
    const values = [null, ...pairs.map(([value]) => value), null];
    assert.deepEqual(await stored(type, values), [null, ...pairs.map(([, text]) => text), null], type);
  }
});

test('no rows are no rows', async () => {
  for (const type of ['text', 'bigint', 'inet']) assert.deepEqual(await stored(type, []), []);
});

test('what a column cannot hold is refused, and blamed on the value', async () => {
  for (const [type, value] of [
    ['bigint', 0.5],
    ['bigint', 2 ** 53],
    ['bigint', '7'],
    ['timestamptz', '0000-12-31T00:00:00.000Z'],
    ['timestamptz', 'yesterday'],
    ['timestamptz', Number.NaN],
    ['uuid', '00000000-0000-4000-8000-00000000000'],
    ['uuid', '00000000-0000-4000-8000-0000000000g0'],
    ['uuid', '00000000-0000-4000-8000-0000000000ü0'],
    ['uuid', '000000000000-4000-8000-0000-00000000'],
  ] as const) {
    await assert.rejects(stored(type, [value]), { code: 'UNSTORABLE_VALUE' }, `${type} ${value}`);
  }
  await assert.rejects(stored('smallint', [32_768]), RangeError);
  await assert.rejects(stored('text', ['\0']), { code: '22021' });
});
