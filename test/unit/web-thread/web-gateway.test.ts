import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { before, test } from 'node:test';
import { ByteChannel } from '../../../data-plane/byte-channel/byte-channel.ts';
import { closeQuietly } from '../../../data-plane/os/libc.ts';
import { WebGateway, type WebGatewayOptions } from '../../../data-plane/web-thread/web-gateway.ts';
import { freePort } from '../../../deploy/local/free-port.ts';
import { createLogger } from '../../../shared/log/logger.ts';
import { Http2Peer } from '../../support/http2-peer.ts';
import { issueTestCertificate, type TestCertificate } from '../../support/test-certificate.ts';
import { waitFor } from '../../support/wait-for.ts';

const TIMEOUT_MS = 10_000;
const NAME = 'node-a.test';
let pem: TestCertificate;
before(async () => {
  pem = await issueTestCertificate([NAME]);
});

function gateway(listen: string, changes: Partial<WebGatewayOptions> = {}): WebGateway {
  const { cert, key } = pem;
  return new WebGateway({
    thread: {
      listen,
      identity: { cert, key, clientCa: undefined },
      service: 'connect-ip',
      authorities: [],
      maxConnections: 10,
    },
    log: createLogger('test', 'silent'),
    onRequest: () => {},
    onFailed: () => {},
    post: () => true,
    ...changes,
  });
}

test('a port that is in use is named', async (t) => {
  const other = createServer().listen(0, '127.0.0.1');
  t.after(() => other.close());
  await waitFor(() => other.listening, { timeoutMs: TIMEOUT_MS, what: 'the other server' });
  const { port } = other.address() as { port: number };
  const web = gateway(`127.0.0.1:${port}`);
  t.after(() => web.stop());
  await assert.rejects(web.start(), {
    code: 'LISTEN_FAILED',
    message: `cannot listen on TCP 127.0.0.1:${port}: the port is in use`,
  });
});

test('a request is told with what it asks for, and its answer gets to the client', async (t) => {
  const asked: { token: string | null; transport: string; remoteAddress: string }[] = [];
  const web = gateway('127.0.0.1:0', {
    onRequest: ({ requestId, token, transport, remoteAddress }) => {
      asked.push({ token, transport, remoteAddress });
      web.reject({ type: 'reject', requestId, status: 429 });
    },
  });
  t.after(() => web.stop());
  const server = await web.start();
  const peer = await Http2Peer.connect({ server, serverName: NAME, ca: pem.ca, from: '127.0.0.1' });
  assert.equal((await peer.request('secret')).status, 429);
  assert.deepEqual(asked, [{ token: 'secret', transport: 'http2', remoteAddress: '127.0.0.1' }]);
  peer.close();
});

test('a client that is lost is told of once, and who hears of it closes the channel', async (t) => {
  const told: string[] = [];
  let fd = -1;
  const web = gateway('127.0.0.1:0', {
    onRequest: ({ requestId }) => {
      const scope = { targets: null, protocol: 'any' } as const;
      web.accept({ type: 'accept', requestId, connectionId: 'c', clientId: 'x', addresses: [], scope });
    },
    post: (command) => {
      told.push(command.type === 'lost' ? `lost ${command.connectionId} ${command.reason}` : command.type);
      if (command.type === 'adopt') fd = command.fd;
      else closeQuietly(fd);
      return true;
    },
  });
  t.after(() => web.stop());
  const server = await web.start();
  const peer = await Http2Peer.connect({ server, serverName: NAME, ca: pem.ca, from: '127.0.0.1' });
  assert.equal((await peer.request('secret')).status, 200);
  assert.deepEqual(told, ['adopt']);
  peer.session.destroy();
  await waitFor(() => told.length > 1, { timeoutMs: TIMEOUT_MS, what: 'the loss' });
  assert.deepEqual(told, ['adopt', 'lost c client']);
});

test('a client that left while it was decided about has said its last', async (t) => {
  const ends: boolean[] = [];
  let requestId = 0;
  const sources = { add: () => {}, remove: () => {}, watchWritable: () => {} };
  let channel: ByteChannel | undefined;
  const web = gateway('127.0.0.1:0', {
    onRequest: (request) => {
      requestId = request.requestId;
    },
    post: (command) => {
      if (command.type === 'adopt') {
        channel = new ByteChannel(command.fd, sources, { onBytes: () => {}, onEnd: (gone) => ends.push(gone) });
      }
      return true;
    },
  });
  t.after(() => {
    channel?.close();
    web.stop();
  });
  const server = await web.start();
  const peer = await Http2Peer.connect({ server, serverName: NAME, ca: pem.ca, from: '127.0.0.1' });
  peer.send('secret');
  await peer.until(() => requestId > 0 && web.state.connections === 1, 'the request');
  peer.close();
  await peer.until(() => web.state.connections === 0, 'that the thread knows');
  const scope = { targets: null, protocol: 'any' } as const;
  web.accept({ type: 'accept', requestId, connectionId: 'c', clientId: 'x', addresses: [], scope });
  await waitFor(
    () => {
      channel?.drain();
      return ends.length > 0;
    },
    { timeoutMs: TIMEOUT_MS, what: 'the end of the channel' },
  );
  assert.deepEqual(ends, [false]);
});

test('a web thread that failed is started again: no counter falls, and an answer to its requests is for nobody of the next one', async (t) => {
  const asked: number[] = [];
  const listen = `127.0.0.1:${await freePort('127.0.0.1')}`;
  const web = gateway(listen, { onRequest: ({ requestId }) => asked.push(requestId) });
  t.after(() => web.stop());
  const target = { server: await web.start(), serverName: NAME, ca: pem.ca, from: '127.0.0.1' };
  const first = await Http2Peer.connect(target);
  first.send('secret');
  await first.until(() => asked.length === 1, 'the request');
  assert.equal((await first.request('secret', { 'x-padding': 'x'.repeat(20_000) })).status, 431);
  const untilCounted = (times: number) =>
    first.until(() => web.state.limits.request_head === times, `${times} heads in the limits`);
  await untilCounted(1);
  const identity = { cert: pem.cert, key: pem.key, clientCa: undefined };
  web.renew({ ...identity, key: 'none, which the thread does not survive' });
  web.renew(identity);
  await first.until(() => first.closed, 'the end of the thread');
  const second = await waitFor(
    async () => {
      const peer = await Http2Peer.connect(target);
      return peer.closed ? undefined : peer;
    },
    { timeoutMs: TIMEOUT_MS, what: 'the next thread' },
  );
  const tunnel = second.send('secret');
  await second.until(() => asked.length === 2, 'the request to it');
  web.reject({ type: 'reject', requestId: asked[0] ?? 0, status: 503 });
  web.reject({ type: 'reject', requestId: asked[1] ?? 0, status: 429 });
  await second.until(() => tunnel.status > 0, 'the answer');
  assert.equal(tunnel.status, 429);
  assert.equal(web.state.limits.request_head, 1);
  assert.equal((await second.request('secret', { 'x-padding': 'x'.repeat(20_000) })).status, 431);
  await untilCounted(2);
  second.close();
});
