import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { sql } from 'kysely';
import { UnsoundAddresses } from '../../../control-plane/metrics/unsound-addresses.ts';
import { startTestPostgres } from '../projector/projector-database.ts';

test('addresses that outlive their connections, and those that nobody has a right to, are rows and counted', async (t) => {
  const postgres = await startTestPostgres();
  t.after(() => postgres.stop());
  const database = await postgres.database();
  await sql`
    INSERT INTO block_states (block, pool, version, node, lease_end, previous_node, freed_at) VALUES
      ('10.99.0.0/26', '10.99.0.0/16', 1, 'node-a', now() + interval '1 hour', NULL, NULL),
      ('10.99.0.64/26', '10.99.0.0/16', 1, 'node-a', now() - interval '1 minute', NULL, NULL),
      ('10.99.0.128/26', '10.99.0.0/16', 1, 'node-b', now() + interval '1 hour', NULL, NULL)`.execute(database);
  const hold = async (address: string, block: string, held: string, connection?: { closedAt?: string }) => {
    const id = randomUUID();
    if (connection !== undefined) {
      const { closedAt = null } = connection;
      await sql`
        INSERT INTO connections (connection_id, client_id, node, incarnation, state, reason, established_at, closed_at)
        VALUES (${id}, 'alice', 'node-a', 'i', ${closedAt === null ? 'open' : 'closed'}, ${closedAt === null ? null : 'client'},
          '2026-01-01T00:00:00Z', ${closedAt})`.execute(database);
    }
    await sql`
      INSERT INTO address_assignments
        (address, pool, block, client_id, node, connection_id, during, assigned_position)
      VALUES (${address}, '10.99.0.0/16', ${block}, 'alice', 'node-a', ${id}, ${held}::tstzrange,
        (SELECT count(*) FROM address_assignments))`.execute(database);
  };
  const OPEN = '[2026-01-01T00:00:00Z,)';
  const closedAt = '2026-01-01T00:10:00Z';
  await hold('10.99.0.2', '10.99.0.0/26', OPEN, {});
  await hold('10.99.0.3', '10.99.0.0/26', '[2026-01-01T00:00:00Z,2026-01-01T00:10:00Z)', { closedAt });
  await hold('10.99.0.4', '10.99.0.0/26', OPEN, { closedAt });
  await hold('10.99.0.5', '10.99.0.0/26', '[2026-01-01T00:00:00Z,2026-01-01T00:20:00Z)', { closedAt });
  await hold('10.99.0.6', '10.99.0.0/26', OPEN);
  await hold('10.99.0.66', '10.99.0.64/26', OPEN, {});
  await hold('10.99.0.130', '10.99.0.128/26', OPEN, {});

  const leaked = await sql<{ address: string; held: boolean }>`
    SELECT host(address) AS address, held FROM leaked_addresses ORDER BY address`.execute(database);
  assert.deepEqual(leaked.rows, [
    { address: '10.99.0.4', held: true },
    { address: '10.99.0.5', held: false },
  ]);
  const orphaned = await sql<{ address: string; why: string }>`
    SELECT host(address) AS address, why FROM orphaned_addresses ORDER BY orphaned_addresses.address`.execute(database);
  assert.deepEqual(orphaned.rows, [
    { address: '10.99.0.6', why: 'its connection is not known' },
    { address: '10.99.0.66', why: 'the lease of the block is over' },
    { address: '10.99.0.130', why: 'its node does not hold the block' },
  ]);
  assert.deepEqual(await new UnsoundAddresses(database).count(), { leaked: 1, orphaned: 3 });
});

test('what is held is looked up, among any number of connections of the past', async (t) => {
  const postgres = await startTestPostgres();
  t.after(() => postgres.stop());
  const database = await postgres.database();
  await sql`
    INSERT INTO connections (connection_id, client_id, node, incarnation, state, reason, established_at, closed_at)
    SELECT md5(n::text)::uuid, 'alice', 'node-a', 'i', CASE WHEN n > 19990 THEN 'open' ELSE 'closed' END,
      CASE WHEN n > 19990 THEN NULL ELSE 'client' END, now() - n * interval '1 minute',
      CASE WHEN n > 19990 THEN NULL ELSE now() - n * interval '1 minute' + interval '30 seconds' END
    FROM generate_series(1, 20000) n`.execute(database);
  await sql`
    INSERT INTO address_assignments (address, pool, block, client_id, node, connection_id, during, end_reason, assigned_position)
    SELECT '10.99.0.0'::inet + n % 60000, '10.99.0.0/16', '10.99.0.0/26', 'alice', 'node-a', md5(n::text)::uuid,
      tstzrange(now() - n * interval '1 minute', CASE WHEN n <= 19990 THEN now() - n * interval '1 minute' + interval '30 seconds' END),
      CASE WHEN n <= 19990 THEN 'client' END, n
    FROM generate_series(1, 20000) n`.execute(database);
  await sql`ANALYZE`.execute(database);
  for (const question of ['leaked_addresses WHERE held', 'orphaned_addresses']) {
    const { rows } = await sql<Record<string, string>>`EXPLAIN SELECT * FROM ${sql.raw(question)}`.execute(database);
    const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
    assert.match(plan, /Index Scan using connections_pkey/, plan);
    assert.doesNotMatch(plan, /Seq Scan on (connections|address_assignments)/, plan);
  }
});
