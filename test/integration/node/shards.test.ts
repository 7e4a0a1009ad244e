import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { echoPacketBytes, writeEcho } from '../../../data-plane/ip/icmp-echo.ts';
import type { Cluster } from '../../../deploy/local/cluster.ts';
import { scrape } from '../../../deploy/local/http-client.ts';
import { ip } from '../../../deploy/local/ip-command.ts';
import { hasIpv6 } from '../../../deploy/local/netns-topology.ts';
import { sumOf } from '../../../deploy/local/prometheus-text.ts';
import { addressToBytes, parseAddress } from '../../../shared/ip/address.ts';
import { Http2Peer, type Http2PeerStream } from '../../support/http2-peer.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { TestPeer } from '../../support/test-peer.ts';
import { waitFor } from '../../support/wait-for.ts';
import { CountingPeer } from './counting-peer.ts';
import { enrol, openWhenKnown, startOneNode, targetOf } from './node-setup.ts';

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
/** Where ICMP begins without options and extension headers, where the source is, and the type of Destination Unreachable. */
const ICMP_OFFSET = { 4: 20, 6: 40 } as const;
const SOURCE_OFFSET = { 4: 12, 6: 8 } as const;
const UNREACHABLE = { 4: 3, 6: 1 } as const;
const FAMILIES: readonly (4 | 6)[] = hasIpv6() ? [4, 6] : [4];

let cluster: Cluster;
let endOfTest = () => {};
let clients = 0;
/** See abort-core.ts. */
let abortFile = '';

/** The shard through whose interface an address is reached. */
async function shardOf(address: string): Promise<number> {
  const [route] = JSON.parse(await ip('-n', cluster.node('node-a').place.namespace, '-j', 'route', 'get', address));
  return Number(/-(\d+)$/.exec(route.dev)?.[1]);
}

/** A tunnel of a client that is new. */
async function openNew(id: string): Promise<TestPeer> {
  const token = await enrol(cluster, id);
  return openWhenKnown(() => TestPeer.open(targetOf(cluster), token));
}

/** Clients of their own, until each shard has `each` of them. */
async function openOnEveryShard(each: number): Promise<CountingPeer[][]> {
  const peers: CountingPeer[][] = Array.from({ length: SHARDS }, () => []);
  for (let i = 0; i < MAX_CLIENTS && peers.some(({ length }) => length < each); i++) {
    const id = `client-${++clients}`;
    const peer = new CountingPeer(id, await openNew(id));
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

/** Says goodbye, and waits until no tunnel is left. */
async function closeAll(peers: readonly CountingPeer[]): Promise<void> {
  for (const { peer } of peers) peer.close();
  await waitFor(async () => (await nodeMetric('shard_tunnels', {})) === 0, {
    timeoutMs: TIMEOUT_MS,
    what: 'the end of all tunnels',
  });
  await cluster.untilProjected(TIMEOUT_MS);
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
    abortFile = join(directory, 'abort-core-of');
    const nodeEnv = {
      SHARDS: `${SHARDS}`,
      TRAFFIC_WINDOW_MS: `${WINDOW_MS}`,
      ADVERTISE_ROUTES: '0.0.0.0/0,::/0',
      NODE_OPTIONS: `--import=${import.meta.resolve('./abort-core.ts')}`,
      ABORT_CORE_OF: abortFile,
    };
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

  test('a client is told when nobody has an address of the other shard, by that one', async () => {
    const opened = await openOnEveryShard(1);
    const [first, second] = opened.map(([peer]) => peer);
    assert.ok(first !== undefined && second !== undefined);
    for (const family of FAMILIES) {
      const source = addressToBytes(parseAddress(first.address(family)));
      const destination = addressToBytes(parseAddress(second.address(family)));
      const last = destination.length - 1;
      // Blocks are of 64 and of 256 addresses, and the last ones are given out last.
      destination[last] = family === 4 ? (destination[last]! | 0x3f) - 1 : 0xfe;
      const request = new Uint8Array(echoPacketBytes(source.length, 0));
      const message = { source, destination, identifier: 1, sequence: 1, payload: new Uint8Array(0) };
      writeEcho(request, 0, { kind: 'request', ...message });
      let told: Buffer | undefined;
      first.peer.onPacket = (packet) => {
        if (packet[ICMP_OFFSET[family]] === UNREACHABLE[family]) told = packet;
      };
      first.peer.packet(request);
      await first.peer.until(() => told, `an ICMP error of IPv${family}`);
      const from = told?.subarray(SOURCE_OFFSET[family], SOURCE_OFFSET[family] + source.length) ?? Buffer.alloc(0);
      assert.deepEqual([...from.subarray(0, last)], [...destination.subarray(0, last)]);
      assert.equal((from[last] ?? 0) >> 6, family === 4 ? destination[last] >> 6 : 0, 'the address of the node there');
    }
    await closeAll(opened.flat());
  });

  test('clients over HTTP/2 are spread over both, reach each other and those over HTTP/3, and get their addresses back', async () => {
    const target = targetOf(cluster);
    const web: CountingPeer<Http2PeerStream>[] = [];
    const ends: Http2Peer[] = [];
    const tokens: string[] = [];
    for (let i = 0; i < SHARDS; i++) {
      const id = `client-${++clients}`;
      const token = await enrol(cluster, id);
      const { peer, tunnel } = await openWhenKnown(() => Http2Peer.open(target, token));
      tokens.push(token);
      ends.push(peer);
      web.push(new CountingPeer(id, tunnel));
    }
    const shards = await Promise.all(web.map((peer) => shardOf(peer.address(4))));
    assert.deepEqual(shards.sort(), [0, 1]);
    const quic = (await openOnEveryShard(1)).flat();
    for (const peer of web) {
      for (const other of [...web, ...quic]) if (other.id !== peer.id) await peer.ping(other.address(4), PINGS);
    }
    for (const end of ends) end.close();
    await closeAll(quic);

    // In the other order, in which the emptiest shard would be the wrong one.
    const again = [];
    for (const token of [...tokens].reverse()) again.push(await Http2Peer.open(target, token));
    const before = web.map(({ peer }) => peer.addresses);
    assert.deepEqual(again.map(({ tunnel }) => tunnel.addresses).reverse(), before);
    for (const { peer } of again) peer.close();
    await closeAll([]);
  });

  test('clients whose ports change keep their tunnels, also those that the kernel sends to the other shard then', async () => {
    const { behind } = cluster.node('node-a').place;
    const handed = (event: string) => nodeMetric('shard_handoffs_total', { event });
    const movers: CountingPeer[] = [];
    const move = async () => {
      const id = `client-${++clients}`;
      const client = new CountingPeer(id, await openNew(id));
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
    await closeAll(movers);
  });

  test('a core that aborts costs the tunnels of its own shard only, and is replaced', async () => {
    const { behind } = cluster.node('node-a').place;
    const shards = await openOnEveryShard(1);
    const [lost = [], safe = []] = shards;
    writeFileSync(abortFile, lost[0]?.peer.localAddress ?? '');
    await waitFor(
      async () => {
        lost[0]?.peer.keepAlive();
        return (await nodeMetric('quic_aborted_cores', {})) === 1;
      },
      { timeoutMs: TIMEOUT_MS, what: 'the abort' },
    );
    assert.equal(await nodeMetric('shard_tunnels', { shard: '0' }), 0);
    assert.equal(await nodeMetric('shard_tunnels', { shard: '1' }), safe.length);
    for (const peer of safe) await peer.ping(behind.address, PINGS);
    for (const { peer } of lost) peer.vanish();
    const after = await openOnEveryShard(1);
    for (const peer of after.flat()) await peer.ping(behind.address, PINGS);
    await closeAll([...safe, ...after.flat()]);
    const ended = await cluster.sql<{ reason: string; detail: string }>(
      'SELECT reason, detail FROM connections WHERE client_id = ANY ($1)',
      [lost.map(({ id }) => id)],
    );
    assert.equal(ended.length, lost.length);
    for (const { reason, detail } of ended) {
      assert.equal(reason, 'error');
      assert.match(detail, /the QUIC core aborted/);
    }
  });

  test('killed and started with one shard and with two again, the node has all of its blocks, and no address is held twice', async () => {
    const { service, place } = cluster.node('node-a');
    const { behind } = place;
    const blocks = async () => Promise.all(FAMILIES.map((family) => nodeMetric('blocks', { family: `${family}` })));
    const interfaces = async () =>
      JSON.parse(await ip('-n', place.namespace, '-j', 'link', 'show', 'type', 'tun'))
        .map(({ ifname }: { ifname: string }) => ifname)
        .sort();
    const before = await blocks();
    assert.ok(
      before.every((count) => count >= SHARDS),
      before.join(),
    );
    assert.deepEqual(await interfaces(), ['masque0-0', 'masque0-1']);

    await service.kill();
    await service.start({ SHARDS: '1' });
    await waitFor(async () => `${await blocks()}` === `${before}`, { timeoutMs: TIMEOUT_MS, what: 'all blocks' });
    assert.deepEqual(await interfaces(), ['masque0']);
    const id = `client-${++clients}`;
    const only = new CountingPeer(id, await openNew(id));
    for (const family of FAMILIES) await only.ping(family === 4 ? behind.address : behind.address6, PINGS);
    await closeAll([only]);

    await service.kill();
    await service.start();
    await waitFor(async () => `${await blocks()}` === `${before}`, { timeoutMs: TIMEOUT_MS, what: 'all blocks' });
    const peers = (await openOnEveryShard(1)).flat();
    for (const peer of peers) {
      await peer.ping(behind.address, PINGS);
      for (const other of peers) if (other !== peer) await peer.ping(other.address(4), PINGS);
    }
    await closeAll(peers);
    await cluster.untilProjected(TIMEOUT_MS);
    for (const table of ['address_conflicts', 'dead_letter', 'event_gaps']) {
      assert.deepEqual(await cluster.sql(`SELECT * FROM ${table}`), [], table);
    }
  });

  test('when one shard fails the node ends, and the tunnels of the others are told and recorded', async () => {
    const { service, place } = cluster.node('node-a');
    const [lost = [], others = []] = await openOnEveryShard(1);
    await ip('-n', place.namespace, 'link', 'delete', 'masque0-0');
    await waitFor(() => !service.running(), { timeoutMs: TIMEOUT_MS, what: 'the end of the node' });
    assert.equal(service.process().exitStatus()?.code, 1);
    for (const { peer } of [...lost, ...others]) await peer.until(() => peer.ended || peer.closed, 'a goodbye');
    await service.start();
    await cluster.untilProjected(TIMEOUT_MS);
    const reasons = async (peers: readonly CountingPeer[]) =>
      cluster.sql<{ reason: string }>('SELECT DISTINCT reason FROM connections WHERE client_id = ANY ($1)', [
        peers.map(({ id }) => id),
      ]);
    assert.deepEqual(await reasons(lost), [{ reason: 'error' }]);
    assert.deepEqual(await reasons(others), [{ reason: 'drained' }]);
    for (const { peer } of [...lost, ...others]) peer.vanish();
  });
});
