import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { OTHER_TABLES, PROJECTION_TABLES } from '../../../control-plane/projections/projection-tables.ts';
import { rebuildProjections } from '../../../control-plane/rebuild/rebuild-projections.ts';
import { readDefinitions } from '../../../control-plane/rebuild/table-definitions.ts';
import type { Database } from '../../../control-plane/storage/database.ts';
import { describeDifference } from '../../../control-plane/verify/difference.ts';
import { verifyProjections } from '../../../control-plane/verify/verify-projections.ts';
import { startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';
import { TestLog } from '../projector/test-log.ts';
import { BusyLog } from './busy-log.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(async () => postgres.stop());

test('every table of the database is a projection or known not to be one', async () => {
  const database = await postgres.database();
  const { rows } = await sql<{ name: string }>`
    SELECT relname AS name FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
      AND relname NOT LIKE 'kysely_%' ORDER BY 1`.execute(database);
  const listed = [...PROJECTION_TABLES.map(({ name }) => name as string), ...OTHER_TABLES].sort();
  assert.deepEqual(
    rows.map(({ name }) => name),
    listed,
  );
});

test('what the list of projections names is there: keys, other columns, indexes', async () => {
  const definitions = await readDefinitions(await postgres.database());
  for (const { name, key, ignored = [], approximate = [], carried = [], deferred = [] } of PROJECTION_TABLES) {
    const definition = definitions.find((one) => one.name === name);
    assert.ok(definition, name);
    const columns = new Set(definition.columns.map((column) => column.name));
    for (const column of [...key, ...ignored, ...approximate, ...carried])
      assert.ok(columns.has(column), `${name}.${column}`);
    const indexes = new Set(definition.indexes.map((index) => index.name));
    for (const index of deferred) assert.ok(indexes.has(index), index);
  }
});

/** All differences between the live tables and the log. */
async function differences(database: Database): Promise<string[]> {
  const { findings } = await verifyProjections(database, { limit: 10 });
  return findings.flatMap((found) => found.differences.map(describeDifference));
}

test('rebuilt tables say the same as the live ones, and look the same to Postgres', async () => {
  const log = await TestLog.open(postgres);
  await new BusyLog(log).feed(40);
  assert.deepEqual(await differences(log.database), []);
  const definitions = await readDefinitions(log.database);
  await sql`DELETE FROM connections; UPDATE event_counters SET value = 7; TRUNCATE traffic, client_totals`.execute(
    log.database,
  );
  const report = await rebuildProjections(log.database);
  assert.equal(report.from, 0);
  assert.deepEqual(await differences(log.database), []);
  assert.deepEqual(await readDefinitions(log.database), definitions);
});
