import assert from 'node:assert/strict';
import test from 'node:test';
import { HEAD_START_MS } from '../../data-plane/client/transport-race.ts';
import { startCluster } from '../../deploy/local/cluster.ts';
import { needsBinary, needsRoot } from '../support/requirements.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { waitFor } from '../support/wait-for.ts';
import { block, unblock } from './support/block-traffic.ts';
import { withEvidence } from './support/evidence.ts';
import { secondsOf } from './support/outage.ts';
import { assertTunnelHeld, LOAD, markTraffic, untilTrafficGoesOn } from './support/tunnel-traffic.ts';

const skip =
  needsRoot() ||
  needsBinary('nats-server', 'nats-server') ||
  needsBinary('ping', 'iputils-ping') ||
  needsBinary('nft', 'nftables');
const TIMEOUT_MS = 30_000;
/** Of a client's process until its tunnel is open, the head start aside, on a busy machine. */
const START_SECONDS = 5;

test('a client takes HTTP/3 where it can, and HTTP/2 where UDP does not get through', { skip }, async (t) => {
  const cluster = await startCluster({
    directory: temporaryDirectory(t),
    nodes: ['node-a'],
    clients: ['client-1'],
    transports: { 'client-1': 'auto' },
  });
  t.after(() => cluster.stop());
  const client = cluster.client('client-1');
  const { namespace } = client.place;
  const port = Number(new URL(client.node.url).port);
  /** What the client, the API and the table of connections say of the newest tunnel: the node knows some longer whose end it could not hear. */
  const transports = async () => {
    const { connections } = await cluster.api<{ connections: { transport: string }[] }>(
      'GET',
      '/v1/connections?state=open&limit=1',
    );
    const rows = await cluster.sql<{ transport: string }>(
      "SELECT transport FROM connections WHERE state = 'open' ORDER BY established_at DESC LIMIT 1",
    );
    return [client.status()?.transport, ...connections.map((c) => c.transport), ...rows.map((row) => row.transport)];
  };
  const untilOver = (transport: string) =>
    waitFor(async () => (await transports()).join() === [transport, transport, transport].join(), {
      timeoutMs: TIMEOUT_MS,
      what: `a tunnel over ${transport}`,
    });
  const restart = async () => {
    await client.service.stop();
    return secondsOf(() => client.service.start());
  };
  const step = (name: string, run: () => Promise<void>) => t.test(name, () => withEvidence(cluster, run));

  await step('both are open: HTTP/3', () => untilOver('http3').then(() => undefined));

  await step('TCP is blocked: HTTP/3', async () => {
    await block(namespace, 'tcp', port);
    await restart();
    await untilOver('http3');
    await unblock(namespace);
  });

  await step('UDP is blocked under an open tunnel: the next one is over HTTP/2, and carries traffic', async () => {
    await block(namespace, 'udp', port);
    await waitFor(() => client.status()?.transport === 'http2', {
      timeoutMs: TIMEOUT_MS,
      what: 'a tunnel over HTTP/2',
    });
    await client.startTraffic(LOAD);
    await untilTrafficGoesOn(client);
    const mark = markTraffic(client);
    await untilTrafficGoesOn(client);
    assertTunnelHeld(client, mark);
    const hosts = Object.entries(client.traffic()?.hosts ?? {});
    assert.equal(hosts.length, 2, 'IPv4 and IPv6');
    for (const [host, { intact }] of hosts) assert.ok(intact > 0, host);
    await client.stopTraffic();
  });

  await step('UDP is blocked from the start: HTTP/2 opens about its head start later', async () => {
    const seconds = await restart();
    await untilOver('http2');
    assert.ok(seconds < START_SECONDS + HEAD_START_MS / 1_000, `${seconds} s`);
  });

  await step('UDP is open again: a tunnel over HTTP/2 stays, and the next is over HTTP/3', async () => {
    await unblock(namespace);
    const mark = markTraffic(client);
    await client.startTraffic(LOAD);
    await untilTrafficGoesOn(client, mark);
    assert.equal(client.status()?.transport, 'http2');
    await client.stopTraffic();
    await client.node.service.kill();
    await client.node.service.start();
    await waitFor(() => client.status()?.transport === 'http3', {
      timeoutMs: TIMEOUT_MS,
      what: 'a tunnel over HTTP/3',
    });
  });

  await step('a client that is refused hears it over HTTP/2 too', async () => {
    await block(namespace, 'udp', port);
    await restart();
    await untilOver('http2');
    await cluster.api('DELETE', '/v1/clients/client-1');
    await waitFor(() => client.status()?.lastError === 'the node answered 401', {
      timeoutMs: TIMEOUT_MS,
      what: 'the refusal',
    });
    assert.equal(client.status()?.transport, null);
  });
});
