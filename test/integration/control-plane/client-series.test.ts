import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { updateClientSeries } from '../../../control-plane/metrics/client-series.ts';
import { SnapshotReader } from '../../../control-plane/metrics/read-snapshot.ts';
import { ClusterRenderer } from '../../../control-plane/metrics/render-cluster.ts';
import { createDatabase, createPool, type Database } from '../../../control-plane/storage/database.ts';
import { migrate } from '../../../control-plane/storage/migrate.ts';
import { type PostgresServer, startPostgres } from '../../../deploy/local/postgres.ts';
import { parseExposition } from '../../unit/metrics/parse-exposition.ts';

const LIMIT = 2;
const directory = mkdtempSync(join(tmpdir(), 'masque-vpn-'));
let postgres: PostgresServer;
let database: Database;

before(async () => {
  postgres = await startPostgres({ directory, settings: { fsync: 'off' } });
  database = createDatabase(createPool(postgres.url, 'test', () => undefined));
  await migrate(database);
});

after(async () => {
  await database?.destroy();
  await postgres?.stop();
  rmSync(directory, { recursive: true, force: true });
});

/** The client moves something more: totals and a histogram, as the projections write them. */
async function move(clientId: string, bytes: number, lastSeen = new Date()): Promise<void> {
  await sql`
    INSERT INTO client_totals (client_id, bytes_sent, bytes_received, packets_sent, packets_received, last_seen)
    VALUES (${clientId}, ${bytes}, 1, 1, 1, ${lastSeen})
    ON CONFLICT (client_id) DO UPDATE SET bytes_sent = client_totals.bytes_sent + excluded.bytes_sent,
      last_seen = excluded.last_seen`.execute(database);
  const buckets = `{${new Array(17).fill(0).join(',')},${bytes}}`;
  await sql`
    INSERT INTO client_histograms (client_id, family, quantile, buckets, sum, count)
    VALUES (${clientId}, 'latency_ms', '0.5', ${buckets}::bigint[], ${bytes}, ${bytes})
    ON CONFLICT (client_id, family, quantile) DO UPDATE SET sum = client_histograms.sum + excluded.sum,
      count = client_histograms.count + excluded.count,
      buckets[18] = client_histograms.buckets[18] + excluded.count`.execute(database);
}

async function connectClient(clientId: string): Promise<void> {
  await sql`
    INSERT INTO connections (connection_id, client_id, node, incarnation, state, sampled_bytes_in, sampled_bytes_out,
      sampled_packets_in, sampled_packets_out)
    VALUES (gen_random_uuid(), ${clientId}, 'node-a', 'x', 'open', 0, 0, 0, 0)`.execute(database);
}

/** One scrape: what every series of two families shows. */
async function scrape(): Promise<{ bytes: Record<string, number>; observations: Record<string, number> }> {
  await updateClientSeries(database, { ownerEpoch: 0 }, LIMIT);
  const { snapshot } = await new SnapshotReader(database).read();
  const parsed = parseExposition(new ClusterRenderer().render(snapshot));
  const byClient = (family: string, name: string) =>
    Object.fromEntries(
      (parsed.get(family)?.samples ?? [])
        .filter((sample) => sample.name === name)
        .map(({ labels, value }) => [labels.client_id ?? '', value]),
    );
  return {
    bytes: byClient('masque_vpn_bytes_sent_total', 'masque_vpn_bytes_sent_total'),
    observations: byClient('masque_vpn_latency_ms', 'masque_vpn_latency_ms_count'),
  };
}

test('beyond the limit clients are counted under _other, and nothing falls when they come and go', async () => {
  const anHourAgo = new Date(Date.now() - 3_600_001);
  await move('a', 100, anHourAgo);
  await move('b', 20);
  assert.deepEqual(await scrape(), { bytes: { a: 100, b: 20 }, observations: { a: 100, b: 20 } });

  await move('c', 3);
  await connectClient('c');
  const evicted = { b: 20, c: 3, _other: 100 };
  assert.deepEqual(await scrape(), { bytes: evicted, observations: evicted }, 'a was gone for an hour');

  await move('d', 7);
  await connectClient('d');
  const folded = { b: 20, c: 3, _other: 107 };
  assert.deepEqual(await scrape(), { bytes: folded, observations: folded }, 'b was there within the hour');

  await sql`UPDATE client_totals SET last_seen = ${anHourAgo} WHERE client_id = 'b'`.execute(database);
  const swapped = { c: 3, d: 0, _other: 127 };
  assert.deepEqual(await scrape(), { bytes: swapped, observations: swapped }, 'd starts where _other keeps its past');

  await move('d', 5);
  await move('a', 1);
  const counted = { c: 3, d: 5, _other: 128 };
  assert.deepEqual(await scrape(), { bytes: counted, observations: counted });
});

test('a sum under _other does not depend on the order of the rows', async () => {
  const ids = ['f1', 'f2', 'f3'];
  for (const [i, id] of ids.entries()) {
    await sql`INSERT INTO client_totals (client_id, last_seen) VALUES (${id}, now())`.execute(database);
    await sql`INSERT INTO client_series (client_id, shown) VALUES (${id}, false)`.execute(database);
    await sql`
      INSERT INTO client_histograms (client_id, family, quantile, buckets, sum, count)
      VALUES (${id}, 'latency_ms', '0.99', '{1}', ${(i + 1) / 10}, 1)`.execute(database);
  }
  const sumOfOthers = async () => {
    const { snapshot } = await new SnapshotReader(database).read();
    return snapshot.clients.find(({ clientId }) => clientId === '_other')?.latency['0.99']?.sum;
  };
  const before = await sumOfOthers();
  // 0.1 + 0.2 + 0.3 is more than 0.2 + 0.3 + 0.1, in floats. A row that is written anew comes last.
  await sql`UPDATE client_histograms SET count = count WHERE client_id = 'f1'`.execute(database);
  assert.deepEqual([before, await sumOfOthers()], [0.6, 0.6]);
});

test('another term is refused', async () => {
  await move('z', 1);
  await assert.rejects(updateClientSeries(database, { ownerEpoch: 1 }, LIMIT), { code: 'NOT_LEADER' });
});
