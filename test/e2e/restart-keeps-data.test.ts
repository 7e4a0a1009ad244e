import assert from 'node:assert/strict';
import { join } from 'node:path';
import test from 'node:test';
import { type Cluster, type ClusterOptions, startCluster } from '../../deploy/local/cluster.ts';
import type { Sample } from '../../deploy/local/prometheus-text.ts';
import { collectTotals } from '../../deploy/local/traffic-totals.ts';
import { needsBinary, needsRoot } from '../support/requirements.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { waitFor } from '../support/wait-for.ts';
import { assertLogIsWhole } from './support/event-log.ts';
import { withEvidence } from './support/evidence.ts';
import { MetricsWatch } from './support/metrics-watch.ts';
import { LOAD, untilTrafficGoesOn } from './support/tunnel-traffic.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping');
const TIMEOUT_MS = 30_000;

test('a cluster that is stopped and started again on its data goes on counting where it was', { skip }, async (t) => {
  const options: ClusterOptions = {
    directory: join(temporaryDirectory(t), 'cluster'),
    nodes: ['node-a'],
    clients: ['client-1'],
    nodeEnv: { TRAFFIC_WINDOW_MS: '1000' },
  };
  const watch = new MetricsWatch();
  const before = await runOnce(options, watch);
  const after = await runOnce(options, watch);
  t.diagnostic(`${watch.series} series, ${before.bytesSent} bytes, then ${after.bytesSent}`);
  assert.deepEqual(watch.violations, []);
  assert.ok(watch.series > 40, `${watch.series} series`);
  assert.ok(after.bytesSent >= before.bytesSent + LOAD.bytesPerDownload);
  assert.equal(after.epochs, before.epochs);
  assert.equal(after.connections, before.connections + 1);
});

interface RunResult {
  readonly bytesSent: number;
  /** The spools that ever were, by node. */
  readonly epochs: string;
  readonly connections: number;
}

/** One life of the cluster, with traffic and with the control plane killed in the middle. */
async function runOnce(options: ClusterOptions, watch: MetricsWatch): Promise<RunResult> {
  const cluster = await startCluster(options);
  try {
    return await withEvidence(cluster, async () => {
      const observe = () => watch.observe(cluster.controlPlaneUrl);
      await observe();
      const client = cluster.client('client-1');
      await client.startTraffic(LOAD);
      await untilTrafficGoesOn(client);
      await observe();
      await cluster.controlPlane.kill();
      await cluster.controlPlane.start();
      await untilObserved(observe);
      await untilTrafficGoesOn(client);
      await client.stopTraffic();
      await client.service.stop();
      return await settle(cluster, observe);
    });
  } finally {
    await cluster.stop();
  }
}

async function settle(cluster: Cluster, observe: () => Promise<Sample[]>): Promise<RunResult> {
  await waitFor(
    async () => {
      const open = await cluster.sql("SELECT connection_id FROM connections WHERE state <> 'closed'");
      return open.length === 0;
    },
    { timeoutMs: TIMEOUT_MS, what: 'the end of every connection in SQL' },
  );
  await cluster.untilProjected(TIMEOUT_MS);
  await assertLogIsWhole(cluster);
  await observe();
  const [totals] = await collectTotals(cluster);
  assert.deepEqual(totals?.metrics, totals?.sql);
  const epochs = await cluster.sql<{ epoch: string }>(
    "SELECT node || ' ' || epoch AS epoch FROM node_epochs ORDER BY 1",
  );
  const connections = await cluster.sql('SELECT connection_id FROM connections');
  return {
    bytesSent: totals?.metrics.bytesSent ?? 0,
    epochs: epochs.map(({ epoch }) => epoch).join(', '),
    connections: connections.length,
  };
}

function untilObserved(observe: () => Promise<Sample[]>): Promise<Sample[]> {
  return waitFor(observe, { timeoutMs: TIMEOUT_MS, what: 'a leader that shows the metrics of the cluster' });
}
