import assert from 'node:assert/strict';
import { createSecureServer, type ServerHttp2Stream } from 'node:http2';
import { type AddressInfo, createServer } from 'node:net';
import { before, type TestContext, test } from 'node:test';
import type { ClientThreadCommand } from '../../../data-plane/client/client-messages.ts';
import { ConnectionAttempt } from '../../../data-plane/client/connection-attempt.ts';
import type { TransportChoice } from '../../../data-plane/client/transport-race.ts';
import { closeQuietly, read } from '../../../data-plane/os/libc.ts';
import { issueTestCertificate, type TestCertificate } from '../../support/test-certificate.ts';
import { waitFor } from '../../support/wait-for.ts';

const ATTEMPT = 7;
let pem: TestCertificate;

before(async () => {
  pem = await issueTestCertificate(['node-a.test']);
});

/** An attempt whose packet thread is the test. */
function begin(t: TestContext, choice: TransportChoice, serverAddress = '127.0.0.1:9') {
  const posted: ClientThreadCommand[] = [];
  const ends: string[] = [];
  const options = { url: 'https://node-a.test/', token: 'token', ca: pem.ca, certificate: undefined, serverAddress };
  const attempt = new ConnectionAttempt(ATTEMPT, choice, options, {
    post: (command) => posted.push(command),
    onEnded: (reason) => ends.push(reason),
  });
  t.after(() => {
    attempt.close();
    for (const command of posted) if (command.type === 'attach') closeQuietly(command.fd);
  });
  const tunnel = () => posted.find((command) => command.type === 'attach') ?? { fd: -1 };
  const steps = () => posted.map(({ type }) => type);
  const ended = (transport: 'http3' | 'http2', reason: string) =>
    attempt.receive({ type: 'ended', attempt: ATTEMPT, transport, reason });
  const until = (done: () => unknown, what: string) => waitFor(done, { timeoutMs: 5_000, intervalMs: 2, what });
  return { attempt, ends, steps, ended, until, tunnel };
}

/** A server that opens every tunnel, and ends it when the test says so. */
async function startServer(t: TestContext) {
  const server = createSecureServer({ cert: pem.cert, key: pem.key, settings: { enableConnectProtocol: true } });
  let end = (): void => {};
  server.on('stream', (stream: ServerHttp2Stream) => {
    stream.on('error', () => {});
    stream.respond({ ':status': 200 });
    end = () => stream.end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, end: () => end() };
}

async function closedPort(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `127.0.0.1:${port}`;
}

test('over HTTP/3 the packet thread is told each step, and tells the end', (t) => {
  const { attempt, ends, steps, ended } = begin(t, 'http3');
  assert.deepEqual(steps(), ['prepare']);
  attempt.receive({ type: 'prepared', attempt: ATTEMPT });
  assert.equal(attempt.transport, undefined);
  attempt.receive({ type: 'http3Ready', attempt: ATTEMPT });
  assert.equal(attempt.transport, 'http3');
  ended('http3', 'the node answered 401');
  assert.deepEqual(steps(), ['prepare', 'connectHttp3', 'requestHttp3']);
  assert.deepEqual(ends, ['the node answered 401']);
});

test('without a way to the node nothing is tried', (t) => {
  const { attempt, ends, steps } = begin(t, 'auto');
  attempt.receive({ type: 'prepared', attempt: ATTEMPT, problem: 'no way' });
  assert.deepEqual(steps(), ['prepare']);
  assert.deepEqual(ends, ['no way']);
});

test('an HTTP/3 that failed makes way for HTTP/2 at once, and where both fail both reasons are told', async (t) => {
  const address = await closedPort();
  const { attempt, ends, ended, until } = begin(t, 'auto', address);
  attempt.receive({ type: 'prepared', attempt: ATTEMPT });
  ended('http3', 'refused');
  await until(() => ends.length > 0, 'the end');
  assert.deepEqual(ends, [`HTTP/3: refused; HTTP/2: connect ECONNREFUSED ${address}`]);
});

test('where HTTP/2 wins, HTTP/3 is closed and what it still says is no matter; the reason of the end is that of HTTP/2', async (t) => {
  const server = await startServer(t);
  const { attempt, ends, steps, ended, until, tunnel } = begin(t, 'auto', server.address);
  attempt.receive({ type: 'prepared', attempt: ATTEMPT });
  await until(() => steps().includes('attach'), 'the tunnel');
  assert.deepEqual(steps(), ['prepare', 'connectHttp3', 'closeHttp3', 'attach']);
  assert.equal(attempt.transport, 'http2');
  attempt.receive({ type: 'http3Ready', attempt: ATTEMPT });
  ended('http3', 'late');
  assert.deepEqual([steps().length, ends], [4, []]);
  const { fd } = tunnel();
  server.end();
  // As the packet thread does it: when its channel has ended, it tells the end.
  await until(() => read(fd, new Uint8Array(1), 1) === 0, 'the end of the channel');
  ended('http2', 'the channel ended');
  assert.deepEqual(ends, ['the node ended the tunnel']);
});

test('after it was closed an attempt tells nothing', (t) => {
  const { attempt, ends, steps, ended } = begin(t, 'auto');
  attempt.receive({ type: 'prepared', attempt: ATTEMPT });
  attempt.close();
  ended('http3', 'gone');
  assert.deepEqual([steps(), ends], [['prepare', 'connectHttp3'], []]);
});
