import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'kysely';
import { readPoolUsage } from '../../../control-plane/pools/pool-usage.ts';
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
