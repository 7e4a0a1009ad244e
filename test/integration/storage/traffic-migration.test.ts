import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { migrate } from '../../../control-plane/storage/migrate.ts';
import { startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';

const LAST_BEFORE = '0003-control';
const ID = '00000000-0000-4000-8000-000000000001';

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(async () => postgres.stop());

test('traffic from before it was partitioned is carried over, with its hours and days', async () => {
  const database = await postgres.database(LAST_BEFORE);
  await sql`
    UPDATE event_checkpoint SET position = 1500000;
    INSERT INTO connections (connection_id, client_id, node, incarnation, state,
      sampled_bytes_in, sampled_bytes_out, sampled_packets_in, sampled_packets_out)
      VALUES (${sql.lit(ID)}, 'alice', 'node-a', 'i', 'open', 30, 0, 3, 0);
    INSERT INTO client_totals (client_id, bytes_received, packets_received, last_seen) VALUES ('alice', 30, 3, now());
    INSERT INTO client_gauges VALUES (${sql.lit(ID)}, 'alice', 'node-a', now(), 1, 1, 1, 0);
    INSERT INTO client_histograms (client_id, family, quantile, buckets, sum, count)
      VALUES ('alice', 'latency_ms', '0.5', '{1}', 0.25, 1);
    INSERT INTO traffic (position, connection_id, client_id, node, kind, window_start, window_end,
        bytes_in, bytes_out, packets_in, packets_out, rtt_ms)
      SELECT p, ${sql.lit(ID)}, 'alice', 'node-a', 'window', at, at + interval '5 s', 10, 0, 1, 0, 1.5
      FROM (VALUES (7, timestamptz '2026-03-02 23:58Z'), (900000, '2026-03-02 23:59:57Z'), (1400000, '2026-03-03 00:02Z')
      ) AS w (p, at)`.execute(database);

  await migrate(database);

  const traffic = await database
    .selectFrom('traffic')
    .select(['position', 'bytes_in', 'rtt_ms'])
    .orderBy('position')
    .execute();
  assert.deepEqual(
    traffic.map(({ position, bytes_in, rtt_ms }) => [position, bytes_in, rtt_ms]),
    [
      [7, 10, 1.5],
      [900_000, 10, 1.5],
      [1_400_000, 10, 1.5],
    ],
  );
  const hours = await database.selectFrom('traffic_hourly').select(['hour', 'bytes_in']).orderBy('hour').execute();
  assert.deepEqual(
    hours.map(({ hour, bytes_in }) => [hour.toISOString(), bytes_in]),
    [
      ['2026-03-02T23:00:00.000Z', 10],
      ['2026-03-03T00:00:00.000Z', 20],
    ],
  );
  const days = await database.selectFrom('usage_daily').selectAll().orderBy('day').execute();
  assert.deepEqual(
    days.map(({ day, bytes_received, connections }) => [day, bytes_received, connections]),
    [
      ['2026-03-02', 10, 1],
      ['2026-03-03', 20, 1],
    ],
  );
  const connection = await database.selectFrom('connections').select('traffic_days').executeTakeFirstOrThrow();
  assert.equal(connection.traffic_days, '{[2026-03-02,2026-03-04)}');
  const fold = await database.selectFrom('traffic_fold').select('position').executeTakeFirstOrThrow();
  assert.equal(fold.position, 1_500_000);
});
