import assert from 'node:assert/strict';
import { constants } from 'node:http2';
import { connect, Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { socketPair } from '../../../data-plane/byte-channel/socket-pair.ts';
import { Http2Server } from '../../../data-plane/http2/http2-server.ts';
import { encodeDatagramCapsule } from '../../../data-plane/masque/datagram-capsule.ts';
import { NO_WEB_STATE, type WebThreadReport } from '../../../data-plane/web-thread/web-messages.ts';
import { WebTunnels } from '../../../data-plane/web-thread/web-tunnels.ts';
import { loadWebTransport } from '../../../data-plane/webtransport/load-package.ts';
import { SessionOpener } from '../../../data-plane/webtransport/session-opener.ts';
import { ACK, END_HEADERS, END_STREAM, FRAME, headerBlock, http2Frame, PREFACE } from '../../support/http2-frames.ts';
import { RawHttp2Peer } from '../../support/raw-http2-peer.ts';
import { issueTestCertificate } from '../../support/test-certificate.ts';
import { waitFor } from '../../support/wait-for.ts';
import { CONNECT_IP, hex } from '../http3/recording.ts';

const SERVER_NAME = 'node-a.test';
const TIMEOUT_MS = 20_000;
const SERVICE_UNAVAILABLE = 503;
const PACKETS = 400;

/** The server of a web thread, for which the test is the main thread and the packet thread. */
async function startServer(t: TestContext, service: 'connect-ip' | 'webtransport' = 'connect-ip', maxConnections = 10) {
  const { cert, key, ca } = await issueTestCertificate([SERVER_NAME]);
  const reports: WebThreadReport[] = [];
  const start = { ...NO_WEB_STATE, firstRequestId: 1 };
  const tunnels = new WebTunnels((report) => reports.push(report), start);
  const sessions =
    service === 'webtransport' ? await SessionOpener.create(await loadWebTransport(), cert, key) : undefined;
  const identity = { cert, key, clientCa: undefined };
  const authorities: readonly string[] = [];
  const options = { listen: '127.0.0.1:0', identity, service, authorities, maxConnections, start };
  const server = new Http2Server(options, { tunnels, sessions, authorities, failed: () => {} });
  t.after(() => server.close());
  const target = { server: await server.listen(options.listen), serverName: SERVER_NAME, ca, from: '127.0.0.1' };
  const until = (done: () => unknown, what: string) => waitFor(done, { timeoutMs: TIMEOUT_MS, intervalMs: 5, what });
  return { server, tunnels, reports, target, until };
}

const request = (protocol = 'connect-ip') =>
  http2Frame(
    FRAME.HEADERS,
    END_HEADERS,
    1,
    headerBlock(CONNECT_IP.map(([name, value]) => [name, name === ':protocol' ? protocol : value])),
  );

test('a client that says goodbye and leaves its TCP connection open does not keep it', async (t) => {
  const { server, target, until } = await startServer(t);
  const peer = await RawHttp2Peer.connect(target);
  t.after(() => peer.close());
  peer.vanish();
  peer.write(http2Frame(FRAME.GOAWAY, 0, 0, hex('00000000 00000000')));
  await until(() => server.state.connections === 0, 'the end of the connection');
});

test('a request that a drain refused may be refused once more by who decides', async (t) => {
  const { server, tunnels, reports, target, until } = await startServer(t);
  const peer = await RawHttp2Peer.connect(target);
  t.after(() => peer.close());
  peer.write(request());
  await until(() => reports.length > 0, 'the request');
  server.announceDrain();
  tunnels.command({ type: 'reject', requestId: 1, status: SERVICE_UNAVAILABLE });
  await until(() => peer.frames.some(({ type }) => type === FRAME.HEADERS), 'the answer');
  await until(() => peer.closed, 'the end of the connection');
});

test('one remote party that begins handshakes and says nothing takes only its share of them', async (t) => {
  const { server, tunnels, target, until } = await startServer(t, 'connect-ip', 100);
  const port = Number(target.server.split(':')[1]);
  const silent = Array.from({ length: 40 }, () => connect({ host: '127.0.0.1', port, localAddress: '127.0.0.2' }));
  t.after(() => silent.map((socket) => socket.destroy()));
  for (const socket of silent) socket.on('error', () => {});
  await until(() => tunnels.limits.snapshot().handshakes === 8, 'the refusals');
  assert.equal(server.state.handshakes, 32);
  const peer = await RawHttp2Peer.connect(target);
  t.after(() => peer.close());
  assert.equal(peer.closed, false);
  assert.deepEqual(server.state, { connections: 33, handshakes: 32 });
  assert.equal(tunnels.limits.snapshot().handshakes, 8);
  for (const socket of silent) socket.destroy();
  await until(() => server.state.connections === 1, 'the end of the others');
  assert.equal(server.state.handshakes, 0);
});

test('handshakes of many parties at once are no more than all together may have', async (t) => {
  const { server, tunnels, target, until } = await startServer(t, 'connect-ip', 1_000);
  const port = Number(target.server.split(':')[1]);
  const silent = Array.from({ length: 9 * 32 }, (_, i) =>
    connect({ host: '127.0.0.1', port, localAddress: `127.0.0.${2 + (i % 9)}` }),
  );
  t.after(() => silent.map((socket) => socket.destroy()));
  for (const socket of silent) socket.on('error', () => {});
  await until(() => tunnels.limits.snapshot().handshakes === 32, 'the refusals');
  assert.equal(server.state.handshakes, 256);
});

test('item 41 HEADERS in an open tunnel end it with PROTOCOL_ERROR, and the connection lives on', async (t) => {
  const { tunnels, reports, target, until } = await startServer(t);
  const peer = await RawHttp2Peer.connect(target);
  t.after(() => peer.close());
  peer.write(request());
  await until(() => reports.length > 0, 'the request');
  const [packetEnd, webEnd] = socketPair();
  const channel = new Socket({ fd: packetEnd, readable: true, writable: true, allowHalfOpen: true });
  t.after(() => channel.destroy());
  channel.on('error', () => {});
  channel.resume().once('end', () => channel.end());
  tunnels.command({ type: 'accept', requestId: 1, connectionId: 'trailing', fd: webEnd });
  await until(() => peer.frames.some(({ type }) => type === FRAME.HEADERS), 'the answer');
  peer.write(http2Frame(FRAME.HEADERS, END_HEADERS | END_STREAM, 1, headerBlock([['x', 'y']])));
  await until(() => peer.resetCode(1) !== undefined, 'the reset');
  assert.equal(peer.resetCode(1), constants.NGHTTP2_PROTOCOL_ERROR);
  assert.deepEqual(
    reports.filter(({ type }) => type === 'lost'),
    [{ type: 'lost', connectionId: 'trailing', reason: 'error', detail: 'HEADERS in an open tunnel' }],
  );
  assert.equal(peer.closed, false);
});

for (const service of ['connect-ip', 'webtransport'] as const) {
  test(`${service}: a client that ends its tunnel and reads nothing keeps nothing of it`, async (t) => {
    const { tunnels, reports, target, until } = await startServer(t, service);
    const peer = await RawHttp2Peer.connect(target, false);
    t.after(() => peer.close());
    const noWindow = hex('0004 00000000');
    peer.write(PREFACE, http2Frame(FRAME.SETTINGS, 0, 0, noWindow), request(service));
    await until(() => reports.length > 0, 'the request');
    const [packetEnd, webEnd] = socketPair();
    const channel = new Socket({ fd: packetEnd, readable: true, writable: true, allowHalfOpen: true });
    t.after(() => channel.destroy());
    channel.on('error', () => {});
    tunnels.command({ type: 'accept', requestId: 1, connectionId: 'slow', fd: webEnd });
    for (let i = 0; i < PACKETS; i++) channel.write(encodeDatagramCapsule(new Uint8Array(1_000)));
    channel.resume().once('end', () => channel.end());
    await until(() => peer.frames.some(({ type }) => type === FRAME.HEADERS), 'the answer');
    peer.write(http2Frame(FRAME.DATA, END_STREAM, 1));
    await until(() => channel.destroyed, 'the end of the channel');
    await until(() => peer.resetCode(1) !== undefined, 'the reset');
    assert.deepEqual(
      reports.filter(({ type }) => type === 'lost'),
      [],
      'it ended in good order',
    );
  });
}

test('packets of a session that the packet thread does not take are dropped beyond a limit, and counted', async (t) => {
  const { tunnels, reports, target, until } = await startServer(t, 'webtransport');
  const peer = await RawHttp2Peer.connect(target);
  t.after(() => peer.close());
  peer.write(request('webtransport'));
  await until(() => reports.length > 0, 'the request');
  const [packetEnd, webEnd] = socketPair();
  const channel = new Socket({ fd: packetEnd, readable: true, writable: true, allowHalfOpen: true });
  t.after(() => channel.destroy());
  channel.on('error', () => {});
  tunnels.command({ type: 'accept', requestId: 1, connectionId: 'fast', fd: webEnd });
  const settings = () => peer.frames.filter(({ type, flags }) => type === FRAME.SETTINGS && flags === 0);
  await until(() => settings().length === 2, 'the window of a client that was let in');
  for (const _ of settings()) peer.write(http2Frame(FRAME.SETTINGS, ACK, 0));
  const packets = 2_000;
  const capsule = encodeDatagramCapsule(new Uint8Array(1_000));
  for (let i = 0; i < packets; i++) peer.write(http2Frame(FRAME.DATA, 0, 1, capsule));
  await until(() => tunnels.drops.snapshot().queue_full > 0, 'drops');
  let received = 0;
  channel.on('data', ({ length }: Buffer) => {
    received += length / capsule.length;
  });
  await until(() => Math.round(received) + tunnels.drops.snapshot().queue_full === packets, 'each packet once');
});
