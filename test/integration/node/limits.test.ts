import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, suite, test } from 'node:test';
import { encodeCapsule } from '../../../data-plane/masque/capsule.ts';
import { UdpSocket } from '../../../data-plane/udp/udp-socket.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { RefusedError, TestPeer } from '../../support/test-peer.ts';
import { CONNECT_IP, CONTROL_WITH_SETTINGS, concat, frame, headers, hex } from '../../unit/http3/recording.ts';
import { craftInitial } from '../../unit/quic/craft-initial.ts';
import { WatchedNode } from './watched-node.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping');
const CONTROL_STREAM = 2;
const MAX_CONNECTIONS = 40;
const MAX_TUNNELS = 2;
const MAX_REQUESTS = 64;
const MEBIBYTE = 2 ** 20;
const H3_EXCESSIVE_LOAD = 0x107;
const H3_REQUEST_REJECTED = 0x10b;
const ADDRESS_REQUEST = 0x02;

let node: WatchedNode;
let token = '';

suite('what a peer can have too much of: it is held to the limit, the metrics say so, and nobody else notices', {
  skip,
}, () => {
  before(async () => {
    node = await WatchedNode.start({
      clients: ['greedy'],
      nodeEnv: { MAX_CONNECTIONS: String(MAX_CONNECTIONS), MAX_TUNNELS_PER_CLIENT: String(MAX_TUNNELS) },
    });
    token = node.token('greedy');
  });

  after(() => node?.stop());

  test('SETTINGS', async () => {
    const peer = await TestPeer.connect(node.target, false);
    peer.raw(CONTROL_STREAM, concat(hex('00'), frame(0x04, new Uint8Array(0), 4_097)));
    assert.equal(await peer.closeCode(), '0x107');
    await node.expectExceeded({ settings: 1 });
    peer.vanish();
  });

  test('the head of a request', async () => {
    const peer = await TestPeer.connect(node.target, false);
    peer.raw(CONTROL_STREAM, CONTROL_WITH_SETTINGS);
    peer.raw(0, frame(0x01, new Uint8Array(16_385)));
    await node.expectExceeded({ request_head: 1 });
    peer.close();
  });

  test('a capsule, and addresses that are asked for', async () => {
    const peer = await TestPeer.open(node.target, token);
    peer.raw(0, frame(0x00, encodeCapsule(ADDRESS_REQUEST, new Uint8Array(65_537))));
    await peer.until(() => peer.resets.has(0), 'the reset');
    await node.expectExceeded({ capsule: 1 });
    assert.equal(await peer.request(token), 200);
    const wishes = Array.from({ length: 1_025 }, (_, i) => {
      const id = Buffer.alloc(2);
      id.writeUInt16BE(0x4000 | (i + 1));
      return concat(id, hex('04 00000000 20'));
    });
    peer.raw(4, frame(0x00, encodeCapsule(ADDRESS_REQUEST, concat(...wishes))));
    await peer.until(() => peer.resets.has(4), 'the reset');
    await node.expectExceeded({ address_requests: 1 });
    assert.deepEqual([...peer.resets.values()], [H3_EXCESSIVE_LOAD, H3_EXCESSIVE_LOAD]);
    peer.close();
  });

  test('content of a request that was refused', async () => {
    const peer = await TestPeer.connect(node.target);
    assert.equal(await peer.request('not-the-token'), 401);
    for (let i = 0; i < 5; i++) peer.raw(0, frame(0x00, new Uint8Array(MEBIBYTE)));
    await node.expectExceeded({ refused_content: 1 });
    peer.close();
  });

  test('tunnels of one client', async () => {
    const peers = [await TestPeer.open(node.target, token), await TestPeer.open(node.target, token)];
    await assert.rejects(
      TestPeer.open(node.target, token),
      (error) => error instanceof RefusedError && error.status === 429,
    );
    await node.expectExceeded({ tunnels_per_client: 1 });
    for (const peer of peers) peer.close();
    await node.untilMetric('active_connections', 1);
  });

  test('datagrams that belong to no stream', async () => {
    const before = await node.metric('drops_total', { reason: 'no_tunnel' });
    const peer = await TestPeer.open(node.target, token);
    for (let i = 0; i < 100; i++) peer.datagram(hex('05 00 45'));
    await peer.ping(node.behind.address);
    await node.untilMetric('drops_total', before + 100, { reason: 'no_tunnel' });
    peer.close();
  });

  test('requests at once, requests without an end, and connections without a tunnel', async () => {
    const peer = await TestPeer.open(node.target, token);
    const silent = await TestPeer.connect(node.target);
    const half = headers(CONNECT_IP).subarray(0, 12);
    const tooMany = 6;
    for (let i = 1; i < MAX_REQUESTS + tooMany; i++) peer.raw(4 * i, half);
    await peer.until(() => peer.resets.size === tooMany, 'the refusals');
    assert.deepEqual([...new Set(peer.resets.values())], [H3_REQUEST_REJECTED]);
    await node.expectExceeded({ streams: tooMany });
    await silent.until(() => silent.closed, 'the end of the silent one');
    await node.expectExceeded({ request_time: MAX_REQUESTS - 1, tunnel_time: 1 });
    await peer.ping(node.behind.address);
    peer.close();
    silent.vanish();
  });

  test('connections, and how long a handshake takes', async () => {
    await node.untilMetric('quic_connections', 1);
    const socket = UdpSocket.bind(`${node.target.from}:0`);
    const server = socket.peers.fromText(node.target.server);
    const ping = hex('01');
    const beyond = 20;
    for (let i = 0; i < MAX_CONNECTIONS - 1 + beyond; i++) {
      const bytes = craftInitial(ping, randomBytes(20), randomBytes(20));
      socket.queue(bytes, 0, bytes.length, server);
      socket.flush();
    }
    socket.close();
    await node.expectExceeded({ connections: beyond });
    assert.equal(await node.metric('quic_connections'), MAX_CONNECTIONS);
    assert.equal(await node.metric('quic_handshakes'), MAX_CONNECTIONS - 1);
    await node.expectExceeded({ handshake_time: MAX_CONNECTIONS - 1 });
    (await TestPeer.open(node.target, token)).close();
  });

  test('all the while the other client lost no packet', () => node.assertUndisturbed());
});
