import assert from 'node:assert/strict';
import { test } from 'node:test';
import { httpRequest } from '../../../deploy/local/http-client.ts';
import { sumOf } from '../../../deploy/local/prometheus-text.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { TestPeer } from '../../support/test-peer.ts';
import { waitFor } from '../../support/wait-for.ts';
import { CONNECT_IP, CONTROL_WITH_SETTINGS, headers } from '../../unit/http3/recording.ts';
import { nodeMetrics, startOneNode, targetOf } from './node-setup.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 20_000;
const DRAIN_SECONDS = 4;
/** What a node that has nothing to wait for may take to end. */
const AT_ONCE_MS = 3_000;
const H3_NO_ERROR = 0x100;
const H3_REQUEST_REJECTED = 0x10b;

test('item 40 a node that is asked to stop: GOAWAY twice, nobody is let in, tunnels live on to the deadline', {
  skip,
}, async (t) => {
  const directory = temporaryDirectory(t);
  const nodeEnv = { DRAIN_SECONDS: String(DRAIN_SECONDS) };
  const clients = ['staying', 'late', 'hurried'];
  const cluster = await startOneNode({ directory, clients, connect: [], nodeEnv });
  t.after(() => cluster.stop());
  const node = cluster.node('node-a');
  const target = targetOf(cluster);
  const ends = (clientId: string) =>
    cluster.sql<{ reason: string }>('SELECT reason FROM connections WHERE client_id = $1', [clientId]);
  const untilDrained = (clientId: string) =>
    waitFor(async () => (await ends(clientId))[0]?.reason === 'drained', {
      timeoutMs: TIMEOUT_MS,
      what: `${clientId}'s connection to be drained`,
    });
  const readiness = async () => (await httpRequest('GET', `${node.httpUrl}/readyz`)).body;

  const staying = await TestPeer.open(target, cluster.client('staying').token);
  const since = performance.now();
  node.service.process().signal('SIGTERM');
  await staying.until(() => staying.goaways.length > 0, 'the first GOAWAY');
  // 2^62 - 4 is beyond what a number holds.
  assert.deepEqual(staying.goaways, [Number.POSITIVE_INFINITY]);
  assert.match(await readiness(), /the node is draining/);

  const late = await TestPeer.connect(target, false);
  late.raw(2, CONTROL_WITH_SETTINGS);
  late.raw(0, headers([...CONNECT_IP, ['authorization', `Bearer ${cluster.client('late').token}`]]));
  const refused = async () =>
    sumOf(await nodeMetrics(cluster), 'masque_vpn_node_connections_failed_total', { status: '503' });
  await waitFor(async () => (await refused()) === 1, { timeoutMs: TIMEOUT_MS, what: 'the refusal in the metrics' });
  assert.equal(late.goaways.length, 1);

  await staying.until(() => staying.goaways.length > 1, 'the second GOAWAY');
  assert.deepEqual(staying.goaways, [Number.POSITIVE_INFINITY, 4]);
  staying.raw(4, headers(CONNECT_IP));
  await staying.until(() => staying.resets.has(4), 'the refusal of a later request');
  assert.equal(staying.resets.get(4), H3_REQUEST_REJECTED);
  await staying.ping(node.place.behind.address);
  assert.deepEqual([staying.ended, staying.closed], [false, undefined]);

  const { code } = await node.service.process().ended();
  const tookMs = performance.now() - since;
  assert.equal(code, 0);
  assert.ok(tookMs >= DRAIN_SECONDS * 1_000 && tookMs < DRAIN_SECONDS * 1_000 + AT_ONCE_MS, `${tookMs.toFixed()} ms`);
  await staying.until(() => staying.closed, 'the end of the connection');
  assert.ok(staying.ended);
  assert.equal(staying.closed?.code, H3_NO_ERROR);
  for (const peer of [staying, late]) peer.vanish();
  await untilDrained('staying');

  await node.service.start();
  const hurried = await TestPeer.open(target, cluster.client('hurried').token);
  node.service.process().signal('SIGTERM');
  await hurried.until(() => hurried.goaways.length > 0, 'the first GOAWAY');
  const again = performance.now();
  node.service.process().signal('SIGTERM');
  assert.equal((await node.service.process().ended()).code, 0);
  assert.ok(performance.now() - again < AT_ONCE_MS, 'a second signal ends it at once');
  assert.ok(hurried.ended);
  hurried.vanish();

  await node.service.start();
  await untilDrained('hurried');
  const alone = performance.now();
  node.service.process().signal('SIGTERM');
  assert.equal((await node.service.process().ended()).code, 0);
  assert.ok(performance.now() - alone < AT_ONCE_MS, 'and one without tunnels ends at once');
});
