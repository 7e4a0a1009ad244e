import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { readFreshPosition, recentWindows } from '../../../control-plane/projections/recent-windows.ts';
import type { Database } from '../../../control-plane/storage/database.ts';
import { startTestPostgres, type TestPostgres } from './projector-database.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(async () => postgres.stop());

/** A log with a window of one of ten connections at each position, the newest `ageSeconds` ago, and others before it. */
async function logOf(events: number, eventsPerSecond: number, ageSeconds = 0): Promise<Database> {
  const database = await postgres.database();
  const age = sql`(${events}::integer - position) / ${eventsPerSecond}::double precision + ${ageSeconds}::integer`;
  await sql`
    INSERT INTO events (position, node, epoch, seq, incarnation, type, version, at, data, recorded_at)
    SELECT position, 'node-a', 'e', position, 'i', 'traffic.sampled', 1, now(), '{}', now() - (${age}) * interval '1 second'
    FROM generate_series(1, ${events}::integer) AS position`.execute(database);
  await sql`
    INSERT INTO traffic (position, connection_id, client_id, node, kind, window_start, window_end, bytes_in, bytes_out,
      packets_in, packets_out)
    SELECT position, md5((position % 10)::text)::uuid, 'alice', 'node-a', 'window', recorded_at - interval '6 seconds',
      recorded_at - interval '1 second', position, 1000000, 1, 1
    FROM events`.execute(database);
  await sql`UPDATE event_checkpoint SET position = ${events}`.execute(database);
  return database;
}

test('of a long log only the newest rows are read for the newest windows, and none of these is missed', async () => {
  const database = await logOf(30_000, 500);
  const position = await readFreshPosition(database);
  assert.ok(position >= 18_000 && position <= 22_500, `position ${position}`);
  const near = await recentWindows(position).execute(database);
  const { rows } = await recentWindows(0).execute(database);
  assert.deepEqual(near.rows, rows);
  assert.equal(rows.length, 10);
  assert.equal(rows[0]?.throughput_out_mbps, 1.6);
});

test('where nothing was recorded lately there is nothing to read', async () => {
  assert.equal(await readFreshPosition(await logOf(2_500, 100, 60)), 2_500);
  assert.equal(await readFreshPosition(await postgres.database()), 0);
});

test('a log that is all new, or whose begin is gone, is read from its begin', async () => {
  const database = await logOf(2_500, 1_000);
  assert.equal(await readFreshPosition(database), -500);
  await sql`DELETE FROM events WHERE position <= 1000`.execute(database);
  assert.equal(await readFreshPosition(database), 500);
});
