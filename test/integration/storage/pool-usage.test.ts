import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'kysely';
import { readPoolUsage, totalOfPools } from '../../../control-plane/pools/pool-usage.ts';
import { ADDRESS_REST_MS } from '../../../shared/ip/block.ts';
import { addPool, startTestPostgres } from '../projector/projector-database.ts';

/** Far more than the statements take. */
const MARGIN_MS = 20_000;

test('a released address counts as used exactly as long as its node rests it', async (t) => {
  const postgres = await startTestPostgres();
  t.after(() => postgres.stop());
  const database = await postgres.database();
  const released = [null, ADDRESS_REST_MS - MARGIN_MS, ADDRESS_REST_MS + MARGIN_MS];
  for (const [i, ms] of released.entries()) {
    await sql`
      INSERT INTO held (pool, address, block, client_id, node, connection_id, since, released_at)
      VALUES ('10.99.0.0/24', ${`10.99.0.${2 + i}`}, '10.99.0.0/26', 'alice', 'node-a', gen_random_uuid(),
        now() - interval '1 hour', now() - ${ms} * interval '1 millisecond')`.execute(database);
  }
  await addPool(database, 'default', ['10.99.0.0/24']);
  const [usage] = await readPoolUsage(database);
  assert.equal(usage?.used, 2);
});

test('each part of a block costs one address for its node, and a pool that retires has nothing available', async (t) => {
  const postgres = await startTestPostgres();
  t.after(() => postgres.stop());
  const database = await postgres.database();
  await addPool(database, 'default', ['10.99.0.0/24']);
  await addPool(database, 'office', ['10.98.0.0/24']);
  const [empty] = await readPoolUsage(database);
  // 256 less network, broadcast, and one for the node of each of four blocks.
  assert.deepEqual([empty?.total, empty?.granted], [250, 0]);
  await sql`
    INSERT INTO block_states (block, pool, version, node, lease_end)
    SELECT block, pool, 1, 'node-a', now() FROM (VALUES
      ('10.99.0.0/28'::cidr, '10.99.0.0/24'::cidr), ('10.99.0.16/28', '10.99.0.0/24'), ('10.99.0.32/32', '10.99.0.0/24'),
      ('10.98.0.0/26', '10.98.0.0/24')) AS b (block, pool)`.execute(database);
  await sql`
    INSERT INTO held (pool, address, block, client_id, node, connection_id, since)
    VALUES ('10.98.0.0/24', '10.98.0.2', '10.98.0.0/26', 'olga', 'node-a', gen_random_uuid(), now())`.execute(database);
  await sql`UPDATE pool_states SET state = 'retiring' WHERE name = 'office'`.execute(database);
  const usages = await readPoolUsage(database);
  assert.deepEqual(
    usages.map(({ pool, state, total, granted, used, available }) => [pool, state, total, granted, used, available]),
    [
      ['default', 'active', 249, 14 + 15, 0, 249],
      ['office', 'retiring', 250, 62, 1, 0],
    ],
  );
  assert.deepEqual(totalOfPools(usages), { total: 250, used: 1 });
});
