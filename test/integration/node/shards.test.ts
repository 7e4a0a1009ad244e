import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { Cluster } from '../../../deploy/local/cluster.ts';
import { scrape } from '../../../deploy/local/http-client.ts';
import { ip } from '../../../deploy/local/ip-command.ts';
import { hasIpv6 } from '../../../deploy/local/netns-topology.ts';
import { sumOf } from '../../../deploy/local/prometheus-text.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { TestPeer } from '../../support/test-peer.ts';
import { waitFor } from '../../support/wait-for.ts';
import { CountingPeer } from './counting-peer.ts';
import { enrol, startOneNode, targetOf } from './node-setup.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 20_000;
const SHARDS = 2;
/** By then each shard has two clients, but for one time in ten million. */
const MAX_CLIENTS = 30;
const PINGS = 3;
/** By then a port was one of the other shard, but for one time in a million. */
const MAX_MOVES = 20;
const PINGS_AFTER_MOVE = 50;
const WINDOW_MS = 1_000;
const FAMILIES: readonly (4 | 6)[] = hasIpv6() ? [4, 6] : [4];

let cluster: Cluster;
let endOfTest = () => {};
let clients = 0;

/** The shard through whose interface an address is reached. */
async function shardOf(address: string): Promise<number> {
  const [route] = JSON.parse(await ip('-n', cluster.node('node-a').place.namespace, '-j', 'route', 'get', address));
  return Number(/-(\d+)$/.exec(route.dev)?.[1]);
}

/** Clients of their own, until each shard has `each` of them. */
async function openOnEveryShard(each: number): Promise<CountingPeer[][]> {
  const peers: CountingPeer[][] = Array.from({ length: SHARDS }, () => []);
  for (let i = 0; i < MAX_CLIENTS && peers.some(({ length }) => length < each); i++) {
    const id = `client-${++clients}`;
    const peer = new CountingPeer(id, await TestPeer.open(targetOf(cluster), await enrol(cluster, id)));
    const shard = await shardOf(peer.address(4));
    for (const family of FAMILIES)
      assert.equal(await shardOf(peer.address(family)), shard, 'both families on one shard');
    peers[shard]?.push(peer);
  }
  assert.ok(
    peers.every(({ length }) => length >= each),
    `clients by shard: ${peers.map(({ length }) => length).join()}`,
  );
  return peers;
}

const nodeMetric = async (family: string, labels: Record<string, string>) =>
  sumOf(await scrape(cluster.node('node-a').metricsUrl), `masque_vpn_node_${family}`, labels);

suite('a node of two shards', { skip }, () => {
  before(async () => {
    const directory = temporaryDirectory({
      after: (end) => {
        endOfTest = end;
      },
    });
    const nodeEnv = { SHARDS: `${SHARDS}`, TRAFFIC_WINDOW_MS: `${WINDOW_MS}`, ADVERTISE_ROUTES: '0.0.0.0/0,::/0' };
    cluster = await startOneNode({ directory, clients: [], nodeEnv });
  });

  after(async () => {
    await cluster?.stop();
    endOfTest();
  });

  test('clients spread over both reach each other and the outside, and each packet is counted once', async () => {
    const { behind } = cluster.node('node-a').place;
    const shards = await openOnEveryShard(2);
    const peers = shards.flat();
    for (const [shard, { length }] of shards.entries()) {
      assert.equal(await nodeMetric('shard_tunnels', { shard: `${shard}` }), length);
      await waitFor(async () => (await nodeMetric('shard_quic_connections', { shard: `${shard}` })) === length, {
        timeoutMs: TIMEOUT_MS,
        what: `${length} QUIC connections of shard ${shard}`,
      });
    }
    for (const peer of peers) {
      for (const family of FAMILIES) {
        await peer.ping(family === 4 ? behind.address : behind.address6, PINGS);
        for (const other of peers) if (other !== peer) await peer.ping(other.address(family), PINGS);
      }
    }
    for (const { peer } of peers) peer.close();
    const closed = async () =>
      sumOf(await scrape(`${cluster.controlPlaneUrl}/metrics`), 'masque_vpn_connections_total', { status: 'closed' });
    await waitFor(async () => (await closed()) === peers.length, { timeoutMs: TIMEOUT_MS, what: 'the ends' });
    const samples = await scrape(`${cluster.controlPlaneUrl}/metrics`);
    const of = (what: string, client_id: string) => sumOf(samples, `masque_vpn_${what}_total`, { client_id });
    for (const { id, sent, received } of peers) {
      assert.deepEqual({ packets: of('packets_received', id), bytes: of('bytes_received', id) }, sent, id);
      assert.deepEqual({ packets: of('packets_sent', id), bytes: of('bytes_sent', id) }, received, id);
      assert.equal(await nodeMetric('packets_total', { client_id: id, direction: 'in' }), sent.packets);
    }
    assert.equal(await nodeMetric('shard_tunnels', {}), 0);
  });

  test('clients whose ports change keep their tunnels, also those that the kernel sends to the other shard then', async () => {
    const { behind } = cluster.node('node-a').place;
    const handed = (event: string) => nodeMetric('shard_handoffs_total', { event });
    const movers: CountingPeer[] = [];
    const move = async () => {
      const id = `client-${++clients}`;
      const client = new CountingPeer(id, await TestPeer.open(targetOf(cluster), await enrol(cluster, id)));
      movers.push(client);
      // The core follows a connection once.
      client.peer.rebind();
      // Again and again: what is on its way to the old port is lost.
      await client.peer.ping(behind.address);
      for (let i = 0; i < PINGS_AFTER_MOVE; i++) await client.ping(behind.address, 1);
    };
    // The counts come with the next window.
    const isAway = async () => (await handed('passed')) >= PINGS_AFTER_MOVE;
    while (!(await isAway())) {
      assert.ok(movers.length < MAX_MOVES, `${movers.length} new ports, all of them of the old shard`);
      await move();
    }
    await waitFor(async () => (await handed('taken')) >= (await handed('passed')), {
      timeoutMs: TIMEOUT_MS,
      what: 'everything that was passed to be taken',
    });
    assert.ok((await handed('asked')) < (await handed('passed')), 'asked only until the other shard answered');
    assert.equal(await handed('dropped'), 0);
    const ids = movers.map(({ id }) => id);
    const rows = await cluster.sql('SELECT 1 FROM connections WHERE client_id = ANY ($1)', [ids]);
    assert.equal(rows.length, movers.length, 'nobody had to come back');
    for (const { peer } of movers) peer.close();
    await waitFor(async () => (await nodeMetric('shard_tunnels', {})) === 0, {
      timeoutMs: TIMEOUT_MS,
      what: 'their ends',
    });
  });
});
