import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { after, before, suite, test } from 'node:test';
import { encodeCapsule } from '../../../data-plane/masque/capsule.ts';
import { hostPort } from '../../../shared/config/parse-config.ts';
import {
  ACK,
  END_HEADERS,
  FRAME,
  type Http2Frame,
  headerBlock,
  headersFrames,
  http2Frame,
} from '../../support/http2-frames.ts';
import { Http2Peer } from '../../support/http2-peer.ts';
import { RawHttp2Peer } from '../../support/raw-http2-peer.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import type { PeerTarget } from '../../support/test-peer.ts';
import { http2 } from '../../support/transport-under-test.ts';
import { SESSION_LISTEN, SESSION_PORT, webTransportOverHttp2 } from '../../support/webtransport-peer.ts';
import { CONNECT_IP, concat, hex } from '../../unit/http3/recording.ts';
import { WatchedNode } from './watched-node.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping');
const MAX_CONNECTIONS = 40;
const MAX_HANDSHAKES_OF_A_PARTY = 32;
const MAX_STREAMS = 16;
const MAX_TUNNELS = 4;
const ADDRESS_REQUEST = 0x02;
const NO_ERROR = 0x0;
const REFUSED_STREAM = 0x7;
/** `:status: 200` in the static table of HPACK (RFC 7541 A), as nghttp2 writes it. */
const STATUS_200 = 0x88;

let node: WatchedNode;
let token = '';

const sessionTarget = (): PeerTarget => {
  return { ...node.target, server: node.target.server.replace(/\d+$/, String(SESSION_PORT)) };
};
/** What TCP clients can ask for, each on a port of its own. */
const SERVICES = [
  { transport: http2, protocol: 'connect-ip', target: () => node.target },
  { transport: webTransportOverHttp2, protocol: 'webtransport', target: sessionTarget },
];

function silentSockets(count: number): Socket[] {
  const { host, port } = hostPort.parse(node.target.server) ?? { host: '', port: 0 };
  return Array.from({ length: count }, () => {
    const socket = connect({ host, port, localAddress: node.target.from });
    socket.unref();
    return socket.on('error', () => {}).resume();
  });
}

suite('what a peer of HTTP/2 can have too much of: it is held to the limit, the metrics say so, and nobody else notices', {
  skip,
}, () => {
  before(async () => {
    node = await WatchedNode.start({
      clients: ['greedy'],
      nodeEnv: {
        MAX_CONNECTIONS: String(MAX_CONNECTIONS),
        MAX_TUNNELS_PER_CLIENT: String(MAX_TUNNELS),
        WEBTRANSPORT_LISTEN: SESSION_LISTEN,
      },
    });
    token = node.token('greedy');
  });

  after(() => node?.stop());

  for (const { transport, protocol, target } of SERVICES) {
    const lines = CONNECT_IP.map(([name, value]) => [name, name === ':protocol' ? protocol : value] as const);

    test(`${transport.id}: the head of a request`, async () => {
      const peer = await RawHttp2Peer.connect(target());
      peer.write(http2Frame(FRAME.SETTINGS, ACK, 0));
      const padded = (bytes: number) => [...lines, ...Array(bytes / 1_000).fill(['x-padding', 'x'.repeat(1_000)])];
      peer.write(...headersFrames(1, padded(20_000)), ...headersFrames(3, padded(130_000)));
      await peer.until(() => peer.resetCode(1) === NO_ERROR && peer.resetCode(3) === NO_ERROR, 'the answers');
      await node.expectExceeded({ request_head: 2 });
      peer.write(...headersFrames(5, padded(200_000)));
      await peer.until(() => peer.closed, 'the end of the connection');
      await node.expectExceeded({ request_head: 1 });
    });

    test(`${transport.id}: requests at once`, async () => {
      const peer = await RawHttp2Peer.connect(target());
      peer.write(http2Frame(FRAME.SETTINGS, ACK, 0));
      const tooMany = 6;
      const request = (streamId: number, changes: readonly (readonly [string, string])[] = []) =>
        http2Frame(FRAME.HEADERS, END_HEADERS, streamId, headerBlock([...lines, ...changes]));
      const all = Array.from({ length: MAX_STREAMS + tooMany }, (_, i) => 2 * i + 1);
      peer.write(Buffer.concat(all.map((streamId) => request(streamId))));
      await peer.until(() => all.every((streamId) => peer.resetCode(streamId) !== undefined), 'the end of all');
      const refused = all.filter((streamId) => peer.resetCode(streamId) === REFUSED_STREAM);
      assert.deepEqual(refused, all.slice(MAX_STREAMS));
      await node.expectExceeded({ streams: tooMany });
      peer.write(request(101, [['authorization', `Bearer ${token}`]]));
      const isAccepted = ({ type, streamId, payload }: Http2Frame) =>
        type === FRAME.HEADERS && streamId === 101 && payload[0] === STATUS_200;
      await peer.until(() => peer.frames.some(isAccepted), 'a tunnel');
      peer.close();
    });

    test(`${transport.id}: a capsule, and addresses that are asked for`, async () => {
      const wishes = Array.from({ length: 1_025 }, (_, i) => {
        const id = Buffer.alloc(2);
        id.writeUInt16BE(0x4000 | (i + 1));
        return concat(id, hex('04 00000000 20'));
      });
      for (const [limit, value] of [
        ['capsule', new Uint8Array(65_537)],
        ['address_requests', concat(...wishes)],
      ] as const) {
        const tunnel = await transport.request(node.target, token);
        await tunnel.until(() => tunnel.addresses.length > 0, 'the assignments');
        tunnel.content(encodeCapsule(ADDRESS_REQUEST, value));
        await tunnel.until(() => tunnel.ended !== undefined, 'the end');
        assert.equal(tunnel.ended, transport.codes.excessive, limit);
        await node.expectExceeded({ [limit]: 1 });
        tunnel.close();
      }
    });

    test(`${transport.id}: tunnels of one client`, async () => {
      await node.untilMetric('active_connections', 1);
      const tunnels = [];
      for (let i = 0; i < MAX_TUNNELS + 1; i++) tunnels.push(await transport.request(node.target, token));
      assert.deepEqual(
        tunnels.map(({ status }) => status),
        [...Array(MAX_TUNNELS).fill(200), 429],
      );
      await node.expectExceeded({ tunnels_per_client: 1 });
      for (const tunnel of tunnels) tunnel.close();
      await node.untilMetric('active_connections', 1);
    });
  }

  test('connections and handshakes, and all that takes too long', async () => {
    await node.untilMetric('http2_connections', 0);
    const connected = 10;
    const peers: RawHttp2Peer[] = [];
    for (let i = 0; i < connected; i++) peers.push(await RawHttp2Peer.connect(node.target));
    const sockets = silentSockets(MAX_CONNECTIONS - connected);
    await node.untilMetric('http2_handshakes', MAX_CONNECTIONS - connected);
    const beyond = 5;
    silentSockets(beyond);
    await node.expectExceeded({ connections: beyond });
    for (const peer of peers.splice(1)) peer.close();
    await node.untilMetric('http2_connections', MAX_CONNECTIONS - connected + 1);
    sockets.push(...silentSockets(MAX_HANDSHAKES_OF_A_PARTY + beyond - sockets.length));
    await node.expectExceeded({ handshakes: beyond });
    assert.equal(await node.metric('http2_handshakes'), MAX_HANDSHAKES_OF_A_PARTY);

    // Both have ten seconds, and so has a session until its client opens a stream.
    const sessions = await Http2Peer.connect(sessionTarget());
    const session = await sessions.request(token, { ':protocol': 'webtransport' });
    assert.equal(session.status, 200);
    await session.until(() => session.closed !== undefined, 'the end of the session');
    await Promise.all(peers.map((peer) => peer.until(() => peer.closed, 'the end of the idle one')));
    await node.expectExceeded({ handshake_time: MAX_HANDSHAKES_OF_A_PARTY, tunnel_time: 1, request_time: 1 });
    assert.ok(sockets.every(({ closed }) => closed));
    sessions.close();
  });

  test('all the while the other client lost no packet', () => node.assertUndisturbed());
});
