import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { socketPair } from '../../../data-plane/byte-channel/socket-pair.ts';
import { encodeAddressAssign } from '../../../data-plane/masque/address-assign.ts';
import { encodeDatagramCapsule } from '../../../data-plane/masque/datagram-capsule.ts';
import { encodeRouteAdvertisement } from '../../../data-plane/masque/route-advertisement.ts';
import type { RequestReport } from '../../../data-plane/tunnel/tunnel-messages.ts';
import { NO_WEB_STATE, type WebThreadReport } from '../../../data-plane/web-thread/web-messages.ts';
import { WebTunnels } from '../../../data-plane/web-thread/web-tunnels.ts';
import { openTunnel } from '../../../data-plane/webtransport/browser-client.js';
import { loadWebTransport } from '../../../data-plane/webtransport/load-package.ts';
import { PackageServer } from '../../../data-plane/webtransport/package-server.ts';
import { parsePrefix } from '../../../shared/ip/prefix.ts';
import { issueTestCertificate } from '../../support/test-certificate.ts';
import { waitFor } from '../../support/wait-for.ts';
import { clientOptions, WebTransport } from '../../support/webtransport-client.ts';

const TIMEOUT_MS = 10_000;
const CONNECTION_ID = '0b1f7a52-54c0-4e0c-8a59-3f0d1a2b3c4d';

/** The package's Http2Server stands for its Http3Server, whose native library is not on npm: what they share is what we use of them. */
async function start(t: TestContext) {
  const { webTransport } = await loadWebTransport();
  const { cert, key } = await issueTestCertificate(['127.0.0.1'], 10);
  const reports: WebThreadReport[] = [];
  const failures: number[] = [];
  const tunnels = new WebTunnels((report) => reports.push(report), { ...NO_WEB_STATE, firstRequestId: 1 });
  const server = await PackageServer.listen(
    webTransport.Http2Server,
    { listen: '127.0.0.1:0', identity: { cert, key, clientCa: undefined }, maxConnections: 10 },
    { tunnels, authorities: [], failed: (_peer, status) => failures.push(status) },
  );
  t.after(() => server.close());
  const open = (path: string, onPacket: (packet: Uint8Array) => void = () => {}) =>
    openTunnel(`https://127.0.0.1:${server.port}${path}`, 'secret', {
      WebTransport,
      options: clientOptions(cert),
      onPacket,
    });
  const request = (): Promise<RequestReport> =>
    waitFor(() => reports.find((report) => report.type === 'request'), { timeoutMs: TIMEOUT_MS, what: 'a request' });
  return { server, tunnels, reports, failures, open, request };
}

test('a session on a server of the package is asked for, let in, and joined to a byte channel', async (t) => {
  const { tunnels, reports, open, request } = await start(t);
  const came: Uint8Array[] = [];
  const opened = open('/.well-known/masque/ip/192.0.2.0%2F24/6/', (packet) => came.push(packet));
  const { requestId, transport, remoteAddress, token, target, protocol } = await request();
  assert.deepEqual([transport, remoteAddress, token, protocol], ['webtransport', '127.0.0.1', 'secret', 6]);
  assert.deepEqual(target, { kind: 'prefix', prefix: parsePrefix('192.0.2.0/24') });

  const [ours, theirs] = socketPair();
  tunnels.command({ type: 'accept', requestId, connectionId: CONNECTION_ID, fd: theirs });
  const socket = new Socket({ fd: ours, readable: true, writable: true, allowHalfOpen: true });
  socket.write(encodeAddressAssign([{ requestId: 0n, prefix: parsePrefix('10.99.0.2/32') }]));
  socket.write(encodeRouteAdvertisement([]));
  const tunnel = await opened;
  assert.deepEqual(tunnel.addresses, ['10.99.0.2']);

  const packet = new Uint8Array(1400).fill(7);
  const capsule = encodeDatagramCapsule(Buffer.concat([Buffer.of(0), packet]));
  socket.write(capsule);
  await waitFor(() => came.length > 0, { timeoutMs: TIMEOUT_MS, what: 'the packet' });
  assert.deepEqual(came, [packet]);
  await tunnel.send(packet);
  const received: Buffer[] = [];
  socket.on('data', (bytes: Buffer) => received.push(bytes));
  await waitFor(() => Buffer.concat(received).length >= capsule.length, { timeoutMs: TIMEOUT_MS, what: 'the packet' });
  assert.deepEqual(new Uint8Array(Buffer.concat(received)), capsule);

  const ended = once(socket, 'end');
  tunnel.close();
  await ended;
  socket.end();
  assert.deepEqual(
    reports.map(({ type }) => type),
    ['request'],
    'a clean end is the end of the bytes',
  );
});

test('who is refused, by the node or for its path, gets no session', async (t) => {
  const { server, tunnels, failures, open, request } = await start(t);
  await Promise.all([
    assert.rejects(open('/.well-known/masque/ip/*/*/'), /handshake failed/),
    request().then(({ requestId }) => tunnels.command({ type: 'reject', requestId, status: 401 })),
  ]);
  await assert.rejects(open('/vpn'), /handshake failed/);
  server.announceDrain();
  await assert.rejects(open('/.well-known/masque/ip/*/*/'), /handshake failed/);
  assert.deepEqual(failures, [404, 503]);
});
