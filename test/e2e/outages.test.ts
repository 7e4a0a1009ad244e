import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { checkHistory } from '../../deploy/local/checks.ts';
import { type Cluster, startCluster } from '../../deploy/local/cluster.ts';
import type { ClusterClient } from '../../deploy/local/cluster-parts.ts';
import { sumOf } from '../../deploy/local/prometheus-text.ts';
import { collectTotals } from '../../deploy/local/traffic-totals.ts';
import { needsBinary, needsRoot } from '../support/requirements.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { waitFor } from '../support/wait-for.ts';
import { assertLogIsWhole, assertSpoolIsInLog, countEvents } from './support/event-log.ts';
import { withEvidence } from './support/evidence.ts';
import { MetricsWatch } from './support/metrics-watch.ts';
import { beginOutage, secondsOf } from './support/outage.ts';
import { readSpoolFile } from './support/spool-file.ts';
import { assertTunnelHeld, LOAD, markTraffic, type TrafficMark, untilTrafficGoesOn } from './support/tunnel-traffic.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping');
const TIMEOUT_MS = 30_000;
/** Clients notice a node that died by its silence: the idle timeout of their connection, and a backoff. */
const RECONNECT_TIMEOUT_MS = 50_000;
const LOST_WITHIN_SECONDS = 15;
const REVOKED_WITHIN_MS = 2_000;

/*
 * One cluster goes through all of it, one fault after the other, with traffic in its tunnels: client-1 and client-3 on
 * node-a, client-2 and client-4 on node-b. All the while its metrics are scraped, and none of its counters may fall.
 */
test('a cluster with traffic in its tunnels outlives the loss of each of its parts', { skip }, async (t) => {
  const cluster = await startCluster({
    directory: temporaryDirectory(t),
    clients: ['client-1', 'client-2', 'client-3', 'client-4'],
    connect: ['client-1', 'client-2', 'client-3'],
    nodeEnv: { TRAFFIC_WINDOW_MS: '1000' },
  });
  t.after(() => cluster.stop());
  const watch = new MetricsWatch().start(cluster.controlPlaneUrl);
  t.after(() => watch.stop());
  const first = cluster.clients.slice(0, 3);
  await Promise.all(first.map((client) => client.startTraffic(LOAD)));
  await Promise.all(first.map((client) => untilTrafficGoesOn(client)));
  const step = (name: string, run: (t: TestContext) => Promise<void>) =>
    t.test(name, (t) => withEvidence(cluster, () => run(t)));

  await step('without NATS for 20 s tunnels run on, and afterwards every event is there once', async (t) => {
    const marks = first.map(markTraffic);
    await cluster.nats().stop();
    const outage = beginOutage();
    const scrapesBefore = watch.scrapes;
    await outage.untilItLasted(20);
    const ends = first.map(markTraffic);
    const scrapes = watch.scrapes - scrapesBefore;
    const samples = await watch.observe(cluster.controlPlaneUrl);
    const seconds = await secondsOf(async () => {
      await cluster.restartNats();
      await cluster.untilProjected(TIMEOUT_MS);
    });
    t.diagnostic(
      `all of it projected ${seconds} s after the start of nats-server; ${scrapes} scrapes while it was away`,
    );
    assert.equal(sumOf(samples, 'masque_vpn_active_connections_total'), 3);
    assert.equal(sumOf(samples, 'masque_vpn_control_nats_up'), 0);
    assert.ok(scrapes >= 8, `${scrapes} scrapes were answered in 20 s`);
    assertTunnelsHeld(first, marks, ends);
    await Promise.all(first.map((client) => untilTrafficGoesOn(client)));
    assertTunnelsHeld(first, marks);
    await assertLogIsWhole(cluster);
    assert.equal(await countEvents(cluster, 'node.lost'), 0);
    assert.deepEqual(watch.violations, []);
  });

  await step(
    'without the control plane for 20 s tunnels run on, and a client that is new there connects',
    async (t) => {
      const marks = first.map(markTraffic);
      const fourth = cluster.client('client-4');
      await cluster.controlPlane.kill();
      const stoppedAt = new Date();
      const outage = beginOutage();
      t.diagnostic(`client-4 connected in ${await secondsOf(() => fourth.service.start())} s`);
      await fourth.startTraffic(LOAD);
      await untilTrafficGoesOn(fourth);
      await outage.untilItLasted(20);
      const startedAt = new Date();
      const ends = first.map(markTraffic);
      const seconds = await secondsOf(async () => {
        await cluster.controlPlane.start();
        await cluster.untilProjected(TIMEOUT_MS);
      });
      t.diagnostic(`all of it projected ${seconds} s after the start of the control plane`);
      assertTunnelsHeld(first, marks, ends);
      assertTunnelsHeld(first, marks);
      const rows = await cluster.sql<{ established_at: Date; addresses: string[] }>(
        `SELECT state, established_at, ARRAY(SELECT text(a.address) FROM address_assignments a
         WHERE a.connection_id = c.connection_id ORDER BY a.assigned_position) AS addresses
         FROM connections c WHERE client_id = 'client-4'`,
      );
      const [row] = rows;
      assert.deepEqual(rows, [{ ...row, state: 'open', addresses: fourth.status()?.addresses }]);
      assert.ok(row !== undefined && row.established_at > stoppedAt && row.established_at < startedAt);
      await assertLogIsWhole(cluster);
      assert.equal(await countEvents(cluster, 'node.lost'), 0);
      assert.deepEqual(watch.violations, []);
    },
  );

  await step('a node without NATS for 30 s is lost and found, and nothing is counted twice', async (t) => {
    const tunnels = ['client-2', 'client-4'].map((id) => cluster.client(id));
    const marks = tunnels.map(markTraffic);
    await cluster.cutFromNats('node-b');
    try {
      const outage = beginOutage();
      const seconds = await secondsOf(() => untilLost(cluster, 'node-b', tunnels));
      t.diagnostic(`lost after ${seconds} s`);
      assert.ok(seconds < LOST_WITHIN_SECONDS, `${seconds} s`);
      await outage.untilItLasted(30);
    } finally {
      await cluster.rejoinNats('node-b');
    }
    t.diagnostic(`open again ${await secondsOf(() => untilUp(cluster, 'node-b', tunnels))} s after its return`);
    await cluster.untilProjected(TIMEOUT_MS);
    assertTunnelsHeld(tunnels, marks);
    await assertLogIsWhole(cluster);
    await Promise.all(cluster.clients.map((client) => client.stopTraffic()));
    await untilTotalsAgree(cluster);
    assert.deepEqual(watch.violations, []);
    assert.equal(await countEvents(cluster, 'node.lost'), 1);
  });

  await step(
    'nodes that are killed are lost; they come back with their spools, and their clients with them',
    async (t) => {
      const [one, two, three, four] = cluster.clients as [ClusterClient, ClusterClient, ClusterClient, ClusterClient];
      const connects = cluster.clients.map((client) => client.status()?.connects ?? 0);
      const incarnations = await incarnationsOf(cluster);
      await Promise.all(cluster.clients.map((client) => client.startTraffic(LOAD)));
      // From now on what happens on node-a is in its spool alone: an end, a tunnel that nobody else knows of, and windows
      // of a second each. node-b is killed as it is.
      await cluster.cutFromNats('node-a');
      const cut = beginOutage();
      const cutLost = secondsOf(() => untilLost(cluster, 'node-a', [one, three]));
      cutLost.catch(() => undefined);
      await three.service.stop();
      await three.service.start();
      await cut.untilItLasted(3);
      await Promise.all(cluster.nodes.map((node) => node.service.kill()));
      const lostAfter = await secondsOf(() => untilLost(cluster, 'node-b', [two, four]));
      const spools = new Map(cluster.nodes.map(({ id }) => [id, readSpoolFile(cluster, id)]));
      const cutLostAfter = await cutLost.finally(() => cluster.rejoinNats('node-a'));
      t.diagnostic(`node-b lost ${lostAfter} s after its end, node-a ${cutLostAfter} s after it was cut off`);
      const seconds = await secondsOf(async () => {
        await Promise.all(cluster.nodes.map((node) => node.service.start()));
        await untilReconnected(cluster.clients, [connects[0]! + 1, connects[1]! + 1, 2, connects[3]! + 1]);
      });
      t.diagnostic(`all clients reconnected ${seconds} s after the start of their nodes`);
      assert.ok(lostAfter < LOST_WITHIN_SECONDS, `${lostAfter} s`);
      assert.ok(cutLostAfter < LOST_WITHIN_SECONDS, `${cutLostAfter} s`);
      await untilUp(cluster, 'node-a', [one, three]);
      await untilUp(cluster, 'node-b', [two, four]);
      await cluster.untilProjected(TIMEOUT_MS);
      const types = new Set(spools.get('node-a')?.events.map(({ type }) => type));
      for (const type of ['connection.established', 'connection.closed', 'traffic.sampled'] as const) {
        assert.ok(types.has(type), `no ${type} in the spool of node-a`);
      }
      for (const [node, spool] of spools) {
        t.diagnostic(`${spool.events.length} events were in the spool of ${node}`);
        await assertSpoolIsInLog(cluster, node, spool);
      }
      await assertLogIsWhole(cluster);
      const ended = await cluster.sql(
        `SELECT client_id, state, reason, closed_at IS NOT NULL AS ended FROM connections
        WHERE incarnation = ANY($1) ORDER BY client_id, established_at`,
        [incarnations],
      );
      const end = { state: 'closed', ended: true };
      assert.deepEqual(ended, [
        { client_id: 'client-1', reason: 'node_lost', ...end },
        { client_id: 'client-2', reason: 'node_lost', ...end },
        { client_id: 'client-3', reason: 'client', ...end },
        { client_id: 'client-3', reason: 'error', ...end },
        { client_id: 'client-4', reason: 'node_lost', ...end },
      ]);
      await Promise.all(cluster.clients.map((client) => untilTrafficGoesOn(client)));
      assert.deepEqual(watch.violations, []);
      assert.equal(await countEvents(cluster, 'node.lost'), 3);
    },
  );

  await step('a client that is revoked loses its tunnel at once, and gets 401 from then on', async (t) => {
    const client = cluster.client('client-4');
    const failed = async () =>
      sumOf(await watch.observe(cluster.controlPlaneUrl), 'masque_vpn_errors_total', { type: 'auth' });
    const failedBefore = await failed();
    // A download that loses its tunnel for good would be waited for in the end.
    await client.stopTraffic();
    await cluster.api('DELETE', '/v1/clients/client-4');
    const row = await waitFor(
      async () => {
        const [row] = await cluster.sql<{ ms: number; reason: string }>(
          `SELECT (1000 * extract(epoch FROM c.closed_at - k.revoked_at))::int AS ms, c.reason
             FROM clients k JOIN connections c USING (client_id) WHERE client_id = 'client-4' AND c.closed_at >= k.revoked_at`,
        );
        return row;
      },
      { timeoutMs: TIMEOUT_MS, what: 'the end of its connection in SQL' },
    );
    t.diagnostic(`closed ${row.ms} ms after the revocation`);
    assert.equal(row.reason, 'revoked');
    assert.ok(row.ms <= REVOKED_WITHIN_MS, `${row.ms} ms`);
    await waitFor(() => client.status()?.lastError?.includes('401'), { timeoutMs: TIMEOUT_MS, what: 'its 401' });
    await waitFor(async () => (await failed()) > failedBefore, { timeoutMs: TIMEOUT_MS, what: 'the error counted' });
    assert.equal((await openConnections(cluster, [client])).length, 0);
  });

  await step('in the end every connection is closed, and metrics, SQL and nodes say the same', async () => {
    await Promise.all(cluster.clients.map((client) => client.stopTraffic()));
    await Promise.all(cluster.clients.map((client) => client.service.stop()));
    await waitFor(async () => (await openConnections(cluster, cluster.clients)).length === 0, {
      timeoutMs: TIMEOUT_MS,
      what: 'the end of every connection in SQL',
    });
    await cluster.untilProjected(TIMEOUT_MS);
    assert.deepEqual(
      (await checkHistory(cluster)).filter(({ ok }) => !ok),
      [],
    );
    await assertLogIsWhole(cluster);
    const samples = await watch.observe(cluster.controlPlaneUrl);
    const [counts] = await cluster.sql<{ established: number; closed: number }>(
      "SELECT count(*)::int AS established, count(*) FILTER (WHERE state = 'closed')::int AS closed FROM connections",
    );
    const connections = (status: string) => sumOf(samples, 'masque_vpn_connections_total', { status });
    assert.deepEqual(counts, { established: connections('established'), closed: connections('closed') });
    assert.equal(sumOf(samples, 'masque_vpn_connection_duration_seconds_count'), counts?.closed);
    assert.equal(sumOf(samples, 'masque_vpn_active_connections_total'), 0);
    const ofSecondProcess = await cluster.sql<{ id: string }>(
      `SELECT client_id AS id, sum(bytes_out)::int AS "bytesSent", sum(bytes_in)::int AS "bytesReceived",
              sum(packets_out)::int AS "packetsSent", sum(packets_in)::int AS "packetsReceived"
         FROM connections JOIN nodes USING (node, incarnation) GROUP BY client_id`,
    );
    for (const { id, metrics, sql, nodeTotals } of await collectTotals(cluster)) {
      assert.deepEqual(metrics, sql);
      assert.deepEqual(
        { id, ...nodeTotals },
        ofSecondProcess.find((row) => row.id === id),
      );
    }
    await watch.stop();
    assert.deepEqual(watch.violations, []);
    assert.ok(watch.scrapes > 100 && watch.series > 100, `${watch.scrapes} scrapes of ${watch.series} series`);
  });
});

function assertTunnelsHeld(
  clients: readonly ClusterClient[],
  since: readonly TrafficMark[],
  until: readonly TrafficMark[] = clients.map(markTraffic),
): void {
  for (const [i, client] of clients.entries()) assertTunnelHeld(client, since[i]!, until[i]);
}

interface OpenConnection {
  readonly id: string;
  readonly clientId: string;
}

async function openConnections(cluster: Cluster, clients: readonly ClusterClient[]): Promise<OpenConnection[]> {
  const { connections } = await cluster.api<{ connections: OpenConnection[] }>('GET', '/v1/connections?state=open');
  return connections.filter(({ clientId }) => clients.some(({ id }) => id === clientId));
}

async function nodeState(cluster: Cluster, id: string): Promise<string | undefined> {
  const { nodes } = await cluster.api<{ nodes: { id: string; state: string }[] }>('GET', '/v1/nodes');
  return nodes.find((node) => node.id === id)?.state;
}

async function incarnationsOf(cluster: Cluster): Promise<string[]> {
  const rows = await cluster.sql<{ incarnation: string }>('SELECT incarnation FROM nodes');
  return rows.map(({ incarnation }) => incarnation);
}

async function activeInMetrics(cluster: Cluster): Promise<number> {
  const samples = await new MetricsWatch().observe(cluster.controlPlaneUrl);
  return sumOf(samples, 'masque_vpn_active_connections_total');
}

/** The control plane says everywhere that the node and the connections of these clients, all that it has, are gone. */
async function untilLost(cluster: Cluster, nodeId: string, clients: readonly ClusterClient[]): Promise<void> {
  await waitFor(
    async () => {
      const presumed = await cluster.sql(
        "SELECT client_id FROM connections WHERE node = $1 AND state = 'presumed' ORDER BY client_id",
        [nodeId],
      );
      const ids = presumed.map((row) => (row as { client_id: string }).client_id);
      return (
        (await nodeState(cluster, nodeId)) === 'lost' &&
        ids.join() === clients.map(({ id }) => id).join() &&
        (await openConnections(cluster, clients)).length === 0 &&
        (await activeInMetrics(cluster)) === (await openConnections(cluster, cluster.clients)).length
      );
    },
    { timeoutMs: TIMEOUT_MS, what: `${nodeId} to be lost with its ${clients.length} connections`, intervalMs: 200 },
  );
}

async function untilUp(cluster: Cluster, nodeId: string, clients: readonly ClusterClient[]): Promise<void> {
  await waitFor(
    async () =>
      (await nodeState(cluster, nodeId)) === 'up' &&
      (await openConnections(cluster, clients)).length === clients.length &&
      (await activeInMetrics(cluster)) === (await openConnections(cluster, cluster.clients)).length,
    { timeoutMs: TIMEOUT_MS, what: `${nodeId} to be up with its ${clients.length} connections`, intervalMs: 200 },
  );
}

async function untilReconnected(clients: readonly ClusterClient[], connects: readonly number[]): Promise<void> {
  await waitFor(
    () =>
      clients.every((client, i) => {
        const status = client.status();
        return status?.state === 'connected' && status.connects >= connects[i]!;
      }),
    { timeoutMs: RECONNECT_TIMEOUT_MS, what: `${clients.map(({ id }) => id).join(' and ')} to reconnect` },
  );
}

/** Without traffic, a window later: what the metrics say, SQL says, and what the nodes counted. */
async function untilTotalsAgree(cluster: Cluster): Promise<void> {
  const agree = async () => {
    const totals = await collectTotals(cluster);
    return totals.every(({ metrics, sql, nodeTotals }) => {
      assert.deepEqual(metrics, sql);
      assert.deepEqual(metrics, nodeTotals);
      return metrics.bytesSent > 0;
    });
  };
  await waitFor(agree, { timeoutMs: TIMEOUT_MS, what: 'metrics = SQL = nodes' });
}
