import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { newestConnections } from '../../../control-plane/api/list-connections.ts';
import type { Database } from '../../../control-plane/storage/database.ts';
import { auditQueries } from '../../../deploy/local/audit-queries.ts';
import { startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';

const CONNECTIONS = 20_000;

let postgres: TestPostgres;
let database: Database;
before(async () => {
  postgres = await startTestPostgres();
  database = await postgres.database();
  await sql`
    INSERT INTO connections (connection_id, client_id, node, incarnation, state, reason, established_at, closed_at,
      sampled_bytes_in, sampled_bytes_out, sampled_packets_in, sampled_packets_out)
    SELECT gen_random_uuid(), 'client-' || n % 100, 'node-' || n % 2, 'i', 'closed', 'client',
      CASE WHEN n % 1000 > 0 THEN now() - n * interval '1 minute' END, now(), 0, 0, 0, 0
    FROM generate_series(1, ${CONNECTIONS}) n`.execute(database);
  await sql`ANALYZE`.execute(database);
});
after(async () => postgres.stop());

async function planOf(query: string): Promise<string> {
  const { rows } = await sql<Record<string, string>>`EXPLAIN ${sql.raw(query)}`.execute(database);
  return rows.map((row) => row['QUERY PLAN']).join('\n');
}

function assertReadsFew(plan: string, index: string): void {
  assert.match(plan, new RegExp(`Index Scan using ${index} `), plan);
  assert.doesNotMatch(plan, /Sort|Seq Scan on connections/, plan);
}

test('the newest connections are read from an index, whatever their number', async () => {
  for (const [filter, index] of [
    [{ limit: 100 }, 'connections_newest'],
    [{ limit: 100, clientId: 'client-7' }, 'connections_client'],
  ] as const) {
    const plan = await newestConnections(database, filter).explain<Record<string, string>>();
    // The addresses of one connection are sorted, and are few.
    const text = plan.map((row) => row['QUERY PLAN']).join('\n');
    assertReadsFew(text.replace(/SubPlan[\s\S]*/, ''), index);
  }
  const [, newest] = auditQueries('10.99.0.1', new Date());
  assertReadsFew((await planOf(newest?.sql ?? '')).replace(/SubPlan[\s\S]*/, ''), 'connections_newest');
});

test('the API and the audit query agree on what is newest: unknown begins come last', async () => {
  const rows = await newestConnections(database, { limit: CONNECTIONS }).execute();
  const firstUnknown = rows.findIndex((row) => row.established_at === null);
  assert.equal(firstUnknown, CONNECTIONS - CONNECTIONS / 1000);
  const [, newest] = auditQueries('10.99.0.1', new Date());
  const { rows: audited } = await sql<{ established_at: Date | null }>`${sql.raw(newest?.sql ?? '')}`.execute(database);
  assert.deepEqual(
    audited.map((row) => row.established_at),
    rows.slice(0, audited.length).map((row) => row.established_at),
  );
});
