import assert from 'node:assert/strict';
import { join } from 'node:path';
import test from 'node:test';
import { CLUSTER_FAMILIES } from '../../control-plane/metrics/contract.ts';
import { startCluster } from '../../deploy/local/cluster.ts';
import { type PrometheusServer, startPrometheus } from '../../deploy/local/prometheus-server.ts';
import { needsBinary, needsRoot } from '../support/requirements.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { waitFor } from '../support/wait-for.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('prometheus', 'prometheus');
const TIMEOUT_MS = 60_000;
const RULE = 'masque_vpn:connection_success_rate:5m';

/** The series that stand for a family: histograms have none under their own name. */
const FAMILIES = Object.values(CLUSTER_FAMILIES).map(({ name, type }) =>
  type === 'histogram' ? `${name}_count` : name,
);

test('a Prometheus that scrapes the cluster and one that federates it hold the same 15 families', {
  skip,
}, async (t) => {
  const directory = temporaryDirectory(t);
  const cluster = await startCluster({
    directory: join(directory, 'cluster'),
    connect: [],
    nodeEnv: { TRAFFIC_WINDOW_MS: '1000' },
  });
  t.after(() => cluster.stop());
  const [nodeA, nodeB] = cluster.nodes.map((node) => new URL(node.httpUrl).host) as [string, string];
  const near = await startPrometheus({
    directory: join(directory, 'near'),
    configuration: 'prometheus.yml',
    targets: {
      'control-plane:9090': new URL(cluster.controlPlaneUrl).host,
      'node-a:9091': nodeA,
      'node-b:9091': nodeB,
    },
    interval: '1s',
  });
  t.after(() => near.stop());
  const far = await startPrometheus({
    directory: join(directory, 'far'),
    configuration: 'federation.yml',
    targets: { 'prometheus:9090': near.target },
    interval: '1s',
  });
  t.after(() => far.stop());

  // A rate sees only what happens after the first scrape.
  await waitFor(async () => (await series(near, 'masque_vpn_connections_total')).length === 3, {
    timeoutMs: TIMEOUT_MS,
    what: 'the first scrape',
  });
  await Promise.all(cluster.clients.map((client) => client.service.start()));
  await Promise.all(cluster.clients.map((client) => client.startTraffic({ bytesPerDownload: 2 ** 20, pauseMs: 500 })));
  const throughput = 'rate(masque_vpn_bytes_sent_total[5m]) * 8 / 1000000';
  const moving = async () => (await near.query(throughput)).filter(({ value }) => value > 0).length === 3;
  await waitFor(moving, { timeoutMs: TIMEOUT_MS, what: 'the throughput of three clients' });
  // Its gauges have to go from both when it goes.
  const rttOfThird = 'masque_vpn_rtt_ms{client_id="client-3"}';
  await waitFor(async () => (await far.query(rttOfThird)).length === 1, { timeoutMs: TIMEOUT_MS, what: rttOfThird });
  // Durations are observed when a connection ends.
  await cluster.client('client-3').stopTraffic();
  await cluster.client('client-3').service.stop();
  for (const prometheus of [near, far]) {
    const gone = async () => (await prometheus.query(rttOfThird)).length === 0;
    await waitFor(gone, { timeoutMs: TIMEOUT_MS, what: `the end of ${rttOfThird}` });
  }

  assert.equal(FAMILIES.length, 15);
  for (const family of FAMILIES) {
    await waitFor(async () => (await series(near, family)).length > 0, { timeoutMs: TIMEOUT_MS, what: family });
    await waitFor(async () => same(await series(near, family), await series(far, family)), {
      timeoutMs: TIMEOUT_MS,
      what: `the same series of ${family} in both`,
    });
  }

  await waitFor(async () => (await near.query('masque_vpn_active_connections_total'))[0]?.value === 2, {
    timeoutMs: TIMEOUT_MS,
    what: 'two active connections',
  });
  // Both sides of the reference's third query match on "status", so it can only be 1.
  const third = 'rate(masque_vpn_connections_total{status="established"}[5m]) / rate(masque_vpn_connections_total[5m])';
  assert.deepEqual(
    (await near.query(third)).map(({ value }) => value),
    [1],
  );
  for (const prometheus of [near, far]) {
    const rate = () => prometheus.query(RULE).then((results) => results[0]?.value === 1);
    await waitFor(rate, { timeoutMs: TIMEOUT_MS, what: 'the recording rule' });
  }
});

/** The label sets of a family, in an order of their own. */
async function series(prometheus: PrometheusServer, family: string): Promise<string[]> {
  const results = await prometheus.query(family);
  return results.map(({ metric }) => JSON.stringify(Object.entries(metric).sort())).sort();
}

const same = (a: readonly string[], b: readonly string[]): boolean => JSON.stringify(a) === JSON.stringify(b);
