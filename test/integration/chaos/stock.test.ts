import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import type { Database } from '../../../control-plane/storage/database.ts';
import { takeStock } from '../../chaos/stock.ts';
import { AcceptedEvents } from '../../support/simulated-node/accepted-events.ts';
import { startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';

let postgres: TestPostgres;
let database: Database;
before(async () => {
  postgres = await startTestPostgres();
  database = await postgres.database();
});
after(() => postgres?.stop());

test('stock is what Postgres has of each node, and what simulated ones accepted in all epochs', async () => {
  await sql`
    INSERT INTO nodes (node, epoch, incarnation, state, last_event_at)
      SELECT node, 'e', 'i', 'up', now() FROM unnest(ARRAY['node-a', 'sim-1', 'gone']) node;
    INSERT INTO events (position, node, epoch, seq, incarnation, type, version, at, data)
      SELECT n, CASE WHEN n <= 3 THEN 'node-a' WHEN n <= 5 THEN 'sim-1' ELSE 'gone' END, 'e', n, 'i', 'node.stopped', 1, now(), '{}'
      FROM generate_series(1, 6) n;
    INSERT INTO connections (connection_id, client_id, node, incarnation, state, sampled_bytes_in, sampled_bytes_out,
        sampled_packets_in, sampled_packets_out)
      SELECT gen_random_uuid(), 'ada', 'node-a', 'i', 'open', 100 * n, 1000 * n, 0, 0 FROM generate_series(1, 2) n`.execute(
    database,
  );
  const accepted = new AcceptedEvents();
  accepted.note('sim-1', 'first', 7);
  accepted.note('sim-1', 'second', 2);
  const stock = await takeStock({
    cluster: {
      nodes: [{ id: 'node-a' }, { id: 'node-b' }],
      sql: async <Row>(text: string) => (await sql.raw<Row>(text).execute(database)).rows,
    },
    fleets: [
      { nodes: ['sim-1'], accepted: () => accepted },
      { nodes: ['sim-2'], accepted: () => new AcceptedEvents() },
    ],
  });
  const nothing = { events: 0, connections: 0, bytesIn: 0, bytesOut: 0 };
  assert.deepEqual(Object.fromEntries(stock), {
    'node-a': { events: 3, connections: 2, bytesIn: 300, bytesOut: 3_000 },
    // There should be these, too.
    'node-b': nothing,
    'sim-1': { ...nothing, events: 2, accepted: 9 },
    'sim-2': { ...nothing, accepted: 0 },
  });
});
