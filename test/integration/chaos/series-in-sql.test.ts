import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'kysely';
import { updateClientSeries } from '../../../control-plane/metrics/client-series.ts';
import { SnapshotReader } from '../../../control-plane/metrics/read-snapshot.ts';
import { ClusterRenderer } from '../../../control-plane/metrics/render-cluster.ts';
import { foldTraffic } from '../../../control-plane/projections/fold-traffic.ts';
import { createPool } from '../../../control-plane/storage/database.ts';
import { parsePrometheusText } from '../../../deploy/local/prometheus-text.ts';
import { compareSeries, readSeries } from '../../chaos/series-in-sql.ts';
import { SampleNode } from '../../unit/projections/sample-events.ts';
import { addPool, startTestPostgres } from '../projector/projector-database.ts';
import { lifeOf, TestLog } from '../projector/test-log.ts';

test('metrics equal the rows that they sum up, and what a sum has more is named', async (t) => {
  const postgres = await startTestPostgres();
  t.after(() => postgres.stop());
  const log = await TestLog.open(postgres);
  const { database, ownerEpoch } = log;
  const pool = createPool(postgres.url(), 'series', () => undefined);
  t.after(() => pool.end());
  await addPool(database, 'default', ['10.99.0.0/24']);
  await sql`
    INSERT INTO block_states (block, pool, version, node, lease_end)
      SELECT block::cidr, '10.99.0.0/24', 1, 'node-a', now()
      FROM unnest(ARRAY['10.99.0.0/28', '10.99.0.16/28', '10.99.0.64/26', '10.99.0.128/32']) AS block;
    INSERT INTO held (pool, address, block, client_id, node, connection_id, since, released_at)
      SELECT '10.99.0.0/24', host('10.99.0.2'::inet + n)::inet, '10.99.0.0/28', 'ada', 'node-a', gen_random_uuid(), now(),
        CASE n WHEN 1 THEN now() WHEN 2 THEN now() - interval '1 hour' END
      FROM generate_series(0, 2) AS n`.execute(database);
  await log.deliver(lifeOf(new SampleNode('node-a'), 'ada'));
  await log.deliver(lifeOf(new SampleNode('node-b'), 'bob'));
  await database.transaction().execute((trx) => foldTraffic(trx));
  await updateClientSeries(database, { ownerEpoch }, 10);
  const cluster = {
    sql: async <Row>(text: string, values: readonly unknown[] = []) =>
      (await pool.query(text, [...values])).rows as Row[],
  };
  const differences = async () => {
    const { snapshot } = await new SnapshotReader(database).read();
    const samples = parsePrometheusText(new ClusterRenderer().render(snapshot));
    return compareSeries(await readSeries(cluster), samples).map((text) => text.replace(/\[.*/, ''));
  };
  assert.deepEqual(await differences(), []);
  const added = {
    "UPDATE client_totals SET packets_sent = packets_sent + 1 WHERE client_id = 'ada'": 'masque_vpn_packets_sent_total',
    "UPDATE event_counters SET value = value + 1 WHERE (name, label) = ('errors', 'packet')": 'masque_vpn_errors_total',
    "UPDATE client_histograms SET sum = sum + 1 WHERE client_id = 'ada' AND quantile = '0.5'":
      'masque_vpn_latency_ms_sum',
    "UPDATE client_histograms SET sum = sum + 1 WHERE client_id = 'ada' AND quantile = ''":
      'masque_vpn_connection_duration_seconds_sum',
  };
  const named = [];
  for (const [statement, name] of Object.entries(added)) {
    await sql.raw(statement).execute(database);
    named.push(name);
    assert.deepEqual((await differences()).sort(), named.toSorted());
  }
});
