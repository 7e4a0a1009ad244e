import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, suite, test } from 'node:test';
import type { Limit } from '../../../data-plane/limits.ts';
import { encodeCapsule } from '../../../data-plane/masque/capsule.ts';
import { UdpSocket } from '../../../data-plane/udp/udp-socket.ts';
import type { Cluster } from '../../../deploy/local/cluster.ts';
import { sumOf } from '../../../deploy/local/prometheus-text.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { type PeerTarget, RefusedError, TestPeer } from '../../support/test-peer.ts';
import { waitFor } from '../../support/wait-for.ts';
import { CONNECT_IP, CONTROL_WITH_SETTINGS, concat, frame, headers, hex } from '../../unit/http3/recording.ts';
import { craftInitial } from '../../unit/quic/craft-initial.ts';
import { nodeMetrics, Pinging, startOneNode, targetOf } from './node-setup.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping');
const TIMEOUT_MS = 20_000;
const CONTROL_STREAM = 2;
const MAX_CONNECTIONS = 40;
const MAX_TUNNELS = 2;
const MAX_REQUESTS = 64;
const MEBIBYTE = 2 ** 20;
const H3_EXCESSIVE_LOAD = 0x107;
const H3_REQUEST_REJECTED = 0x10b;
const ADDRESS_REQUEST = 0x02;

let cluster: Cluster;
let target: PeerTarget;
let token = '';
let pinging: Pinging;
let endOfTest = () => {};

const metric = async (name: string, labels: Record<string, string> = {}): Promise<number> =>
  sumOf(await nodeMetrics(cluster), `masque_vpn_node_${name}`, labels);
const exceeded = (limit: Limit): Promise<number> => metric('limit_exceeded_total', { limit });

async function untilExceeded(limit: Limit, times: number): Promise<void> {
  let seen = 0;
  const probe = async () => {
    seen = await exceeded(limit);
    return seen === times;
  };
  const what = `${limit} to be exceeded ${times} times`;
  await waitFor(probe, { timeoutMs: TIMEOUT_MS, what }).catch((cause) => {
    throw new Error(`${limit} was exceeded ${seen} times, not ${times}`, { cause });
  });
}

suite('what a peer can have too much of: it is held to the limit, the metrics say so, and nobody else notices', {
  skip,
}, () => {
  before(async () => {
    const directory = temporaryDirectory({
      after: (end) => {
        endOfTest = end;
      },
    });
    cluster = await startOneNode({
      directory,
      clients: ['steady', 'greedy'],
      connect: ['steady'],
      nodeEnv: {
        TRAFFIC_WINDOW_MS: '1000',
        MAX_CONNECTIONS: String(MAX_CONNECTIONS),
        MAX_TUNNELS_PER_CLIENT: String(MAX_TUNNELS),
      },
    });
    target = targetOf(cluster);
    token = cluster.client('greedy').token;
    pinging = new Pinging(cluster.client('steady').place.namespace, cluster.node('node-a').place.behind.address);
  });

  after(async () => {
    await cluster?.stop();
    endOfTest();
  });

  test('SETTINGS', async () => {
    const peer = await TestPeer.connect(target, false);
    peer.raw(CONTROL_STREAM, concat(hex('00'), frame(0x04, new Uint8Array(0), 4_097)));
    assert.equal(await peer.closeCode(), '0x107');
    await untilExceeded('settings', 1);
    peer.vanish();
  });

  test('the head of a request', async () => {
    const peer = await TestPeer.connect(target, false);
    peer.raw(CONTROL_STREAM, CONTROL_WITH_SETTINGS);
    peer.raw(0, frame(0x01, new Uint8Array(16_385)));
    await untilExceeded('request_head', 1);
    peer.close();
  });

  test('a capsule, and addresses that are asked for', async () => {
    const peer = await TestPeer.open(target, token);
    peer.raw(0, frame(0x00, encodeCapsule(ADDRESS_REQUEST, new Uint8Array(65_537))));
    await peer.until(() => peer.resets.has(0), 'the reset');
    await untilExceeded('capsule', 1);
    assert.equal(await peer.request(token), 200);
    const wishes = Array.from({ length: 1_025 }, (_, i) => {
      const id = Buffer.alloc(2);
      id.writeUInt16BE(0x4000 | (i + 1));
      return concat(id, hex('04 00000000 20'));
    });
    peer.raw(4, frame(0x00, encodeCapsule(ADDRESS_REQUEST, concat(...wishes))));
    await peer.until(() => peer.resets.has(4), 'the reset');
    await untilExceeded('address_requests', 1);
    assert.deepEqual([...peer.resets.values()], [H3_EXCESSIVE_LOAD, H3_EXCESSIVE_LOAD]);
    peer.close();
  });

  test('content of a request that was refused', async () => {
    const peer = await TestPeer.connect(target);
    assert.equal(await peer.request('not-the-token'), 401);
    for (let i = 0; i < 5; i++) peer.raw(0, frame(0x00, new Uint8Array(MEBIBYTE)));
    await untilExceeded('refused_content', 1);
    peer.close();
  });

  test('tunnels of one client', async () => {
    const peers = [await TestPeer.open(target, token), await TestPeer.open(target, token)];
    await assert.rejects(
      TestPeer.open(target, token),
      (error) => error instanceof RefusedError && error.status === 429,
    );
    await untilExceeded('tunnels_per_client', 1);
    for (const peer of peers) peer.close();
    await waitFor(async () => (await metric('active_connections')) === 1, { timeoutMs: TIMEOUT_MS, what: 'their end' });
  });

  test('datagrams that belong to no stream', async () => {
    const before = await metric('drops_total', { reason: 'no_tunnel' });
    const peer = await TestPeer.open(target, token);
    for (let i = 0; i < 100; i++) peer.datagram(hex('05 00 45'));
    await peer.ping(cluster.node('node-a').place.behind.address);
    await waitFor(async () => (await metric('drops_total', { reason: 'no_tunnel' })) === before + 100, {
      timeoutMs: TIMEOUT_MS,
      what: 'their number in the metrics',
    });
    peer.close();
  });

  test('requests at once, requests without an end, and connections without a tunnel', async () => {
    const peer = await TestPeer.open(target, token);
    const silent = await TestPeer.connect(target);
    const half = headers(CONNECT_IP).subarray(0, 12);
    const tooMany = 6;
    for (let i = 1; i < MAX_REQUESTS + tooMany; i++) peer.raw(4 * i, half);
    await peer.until(() => peer.resets.size === tooMany, 'the refusals');
    assert.deepEqual([...new Set(peer.resets.values())], [H3_REQUEST_REJECTED]);
    await untilExceeded('streams', tooMany);
    await untilExceeded('request_time', MAX_REQUESTS - 1);
    await silent.until(() => silent.closed, 'the end of the silent one');
    await untilExceeded('tunnel_time', 1);
    await peer.ping(cluster.node('node-a').place.behind.address);
    peer.close();
    silent.vanish();
  });

  test('connections, and how long a handshake takes', async () => {
    await waitFor(async () => (await metric('quic_connections')) === 1, {
      timeoutMs: TIMEOUT_MS,
      what: 'the end of all others',
    });
    const socket = UdpSocket.bind(`${target.from}:0`);
    const server = socket.peers.fromText(target.server);
    const ping = hex('01');
    const beyond = 20;
    for (let i = 0; i < MAX_CONNECTIONS - 1 + beyond; i++) {
      const bytes = craftInitial(ping, randomBytes(20), randomBytes(20));
      socket.queue(bytes, 0, bytes.length, server);
      socket.flush();
    }
    socket.close();
    await untilExceeded('connections', beyond);
    assert.equal(await metric('quic_connections'), MAX_CONNECTIONS);
    assert.equal(await metric('quic_handshakes'), MAX_CONNECTIONS - 1);
    await untilExceeded('handshake_time', MAX_CONNECTIONS - 1);
    (await TestPeer.open(target, token)).close();
  });

  test('all the while the other client lost no packet', async () => {
    const { sent, received } = await pinging.stop();
    assert.ok(sent - received <= 1, `${received} of ${sent} pings came back`);
    const status = cluster.client('steady').status();
    assert.deepEqual([status?.state, status?.connects], ['connected', 1]);
  });
});
