import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { constants, type IncomingHttpHeaders } from 'node:http2';
import { before, suite, type TestContext, test } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';
import { CONNECT_TIMEOUT_MS, KEEPALIVE_INTERVAL_MS } from '../../../data-plane/client/client-tunnel.ts';
import { Http2Client } from '../../../data-plane/client/http2-client.ts';
import { H3_MESSAGE_ERROR } from '../../../data-plane/http3/error-codes.ts';
import {
  type CertificateAuthority,
  createAuthority,
  issueServerCertificate,
} from '../../../deploy/local/certificate.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { issueTestCertificate, type TestCertificate } from '../../support/test-certificate.ts';
import { waitFor } from '../../support/wait-for.ts';
import { type Http2ScriptOptions, ScriptedHttp2Node } from './scripted-http2-node.ts';

const NAME = 'node-a.test';
let pem: TestCertificate;

before(async () => {
  pem = await issueTestCertificate([NAME]);
});

async function script(t: TestContext, options?: Http2ScriptOptions, certificate = pem): Promise<ScriptedHttp2Node> {
  const node = await ScriptedHttp2Node.start(certificate, options);
  t.after(() => node.release());
  return node;
}

suite('before there is a tunnel over HTTP/2', () => {
  test('the request is an extended CONNECT with the token in a field, and is sent when it is asked for', async (t) => {
    const node = await script(t, { url: 'https://node-a.test:4433/.well-known/masque/ip/*/*/' });
    await node.until(() => node.ready, 'readiness');
    assert.equal(node.requests.length, 0);
    await node.request();
    const headers: IncomingHttpHeaders = node.requests.at(0)?.headers ?? {};
    const of = (...names: string[]) => names.map((name) => headers[name]);
    assert.deepEqual(
      of(':method', ':protocol', ':scheme', ':authority', ':path', 'capsule-protocol', 'authorization'),
      [
        'CONNECT',
        'connect-ip',
        'https',
        'node-a.test:4433',
        '/.well-known/masque/ip/*/*/',
        '?1',
        'Bearer secret-token',
      ],
    );
  });

  test('a certificate of another name or authority is refused, and the cause is told', async (t) => {
    const { certificate: ca } = (await authority(t, 'other')).authority;
    const [name, other] = [await script(t, { url: 'https://node-b.test/' }), await script(t, { ca })];
    const refused = (cause: string) =>
      new RegExp(
        `^the certificate of 127\\.0\\.0\\.1:\\d+ was refused \\(.*${cause}.*\\): it must come from --ca and have the DNS name of --url$`,
      );
    assert.match(await name.failure(), refused("Host: node-b.test. is not in the cert's altnames: DNS:node-a.test"));
    assert.match(await other.failure(), refused('unable to verify the first certificate|local issuer certificate'));
  });

  test('a host that is an IP address has to be among the DNS names, as with QUIC', async (t) => {
    const byAddress = await issueTestCertificate(['127.0.0.1']);
    const good = await script(t, { url: 'https://127.0.0.1/' }, byAddress);
    await good.until(() => good.ready, 'readiness');
    const bad = await script(t, { url: 'https://127.0.0.2/' }, byAddress);
    assert.match(await bad.failure(), /was refused \(127\.0\.0\.2 is not among its DNS names\)/);
  });

  test('a client certificate is shown, and the lack of one is told', async (t) => {
    const { directory, authority: ca } = await authority(t, 'clients');
    const issued = await issueServerCertificate(ca, directory, 'client', ['client-1'], 'client');
    const [cert, key] = [issued.certificateFile, issued.keyFile].map((file) => readFileSync(file, 'utf8')) as [
      string,
      string,
    ];
    const server = { ca: ca.certificate, requestCert: true, rejectUnauthorized: true };
    const good = await script(t, { server, certificate: { cert, key } });
    await good.request();
    const bad = await script(t, { server });
    assert.match(await bad.failure(), /alert certificate required/);
  });

  test('a server without HTTP/2, one without extended CONNECT, and one that is not there are told apart', async (t) => {
    const plain = createTlsServer({ cert: pem.cert, key: pem.key }).listen(0, '127.0.0.1');
    await new Promise((resolve) => plain.once('listening', resolve));
    const { port } = plain.address() as { port: number };
    const failures: string[] = [];
    const connect = () => {
      const options = { url: `https://${NAME}/`, token: 't', ca: pem.ca, certificate: undefined };
      const events = { onReady: () => {}, onOpen: () => {}, onFailed: (reason: string) => failures.push(reason) };
      const client = new Http2Client({ ...options, serverAddress: `127.0.0.1:${port}` }, events);
      return client;
    };
    const node = await script(t, { server: { settings: {} } });
    assert.equal(await node.failure(), 'the server offers no extended CONNECT: it is no node');
    const first = connect();
    await node.until(() => failures.length === 1, 'a failure');
    first.close();
    await new Promise((resolve) => plain.close(resolve));
    const second = connect();
    t.after(() => second.close());
    await node.until(() => failures.length === 2, 'another failure');
    assert.deepEqual(failures, [
      'the server offers no HTTP/2: it is no node',
      `connect ECONNREFUSED 127.0.0.1:${port}`,
    ]);
  });

  for (const [what, answer, reason] of [
    ['a refusal', { ':status': 401 }, 'the node answered 401'],
    ['item 14 an answer with content', { ':status': 200, 'content-type': 'a/b' }, /content-type in the response/],
    ['item 14 a 204', { ':status': 204 }, 'status 204 cannot open a tunnel'],
  ] as const) {
    test(`${what} is no tunnel`, async (t) => {
      const node = await script(t);
      (await node.request()).respond(answer);
      const told = await node.failure();
      if (typeof reason === 'string') assert.equal(told, reason);
      else assert.match(told, reason);
      assert.equal(node.fd, undefined);
    });
  }

  test('a client that is closed before it may ask never asks', async (t) => {
    const node = await script(t);
    await node.until(() => node.ready, 'readiness');
    node.client.close();
    node.client.sendRequest();
    await node.until(() => node.sessions[0]?.destroyed, 'the end of the connection');
    assert.deepEqual(node.requests, []);
    assert.deepEqual(node.failures, []);
  });

  test('a node that goes away serves no request any more', async (t) => {
    const node = await script(t);
    await node.request();
    node.sessions[0]?.goaway(constants.NGHTTP2_NO_ERROR);
    assert.equal(await node.failure(), 'the node goes away');
  });
});

suite('an open tunnel over HTTP/2', () => {
  test('content passes both ways, and what was sent before the end arrives', async (t) => {
    const node = await script(t);
    const stream = await node.open();
    stream.write('from the node');
    let came = '';
    await node.until(() => {
      came += node.read()?.toString() ?? '';
      return came === 'from the node';
    }, 'content');
    node.write(Buffer.from('from the '));
    node.write(Buffer.from('client'));
    node.closeChannel();
    let told = '';
    stream.on('data', (chunk) => (told += chunk));
    await node.until(() => stream.readableEnded, 'the end of the stream');
    assert.equal(told, 'from the client');
    stream.end();
    node.client.close();
    await node.until(() => node.sessions[0]?.destroyed, 'the end of the connection');
    assert.deepEqual(node.failures, []);
  });

  test("the node's end and its reset are told by the end of the channel, and in words", async (t) => {
    const ends: readonly (readonly [(node: ScriptedHttp2Node) => unknown, string])[] = [
      [(node) => node.stream.end('last words'), 'the node ended the tunnel'],
      [(node) => node.stream.close(constants.NGHTTP2_INTERNAL_ERROR), 'the node reset the tunnel (code 0x2)'],
      [
        (node) => node.sessions[0]?.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM),
        'the node closed the connection (code 0xb)',
      ],
      [(node) => node.sessions[0]?.destroy(), 'the node closed the connection'],
    ];
    for (const [end, reason] of ends) {
      const node = await script(t);
      await node.open();
      end(node);
      await node.channelEnd();
      assert.equal(node.client.endReason, reason);
      assert.deepEqual(node.failures, [], 'the packet thread tells it');
    }
  });

  test('what was said before the end comes before it', async (t) => {
    const node = await script(t);
    (await node.open()).end('last words');
    let came = '';
    const atEnd = () => {
      const bytes = node.read();
      came += bytes?.toString() ?? '';
      return bytes === undefined;
    };
    await node.until(atEnd, 'the end of the channel');
    assert.equal(came, 'last words');
  });

  test('item 24 a rule that the node broke is told with its code', async (t) => {
    const node = await script(t);
    const stream = await node.open();
    node.client.close(H3_MESSAGE_ERROR);
    await node.until(() => stream.closed, 'the reset');
    assert.equal(stream.rstCode, constants.NGHTTP2_PROTOCOL_ERROR);
  });

  test('a node that says nothing for three pings is gone', async (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    const node = await script(t);
    await node.open();
    let pings = 0;
    node.sessions[0]?.on('ping', () => pings++);
    for (let round = 1; round <= 3; round++) {
      t.mock.timers.tick(KEEPALIVE_INTERVAL_MS);
      await node.until(() => pings === round, 'a ping');
    }
    assert.equal(node.client.endReason, undefined, 'answers count');
    node.silence();
    for (let round = 0; round < 4; round++) t.mock.timers.tick(KEEPALIVE_INTERVAL_MS);
    assert.equal(node.client.endReason, 'no word from the node for 15 s');
    await node.channelEnd();
  });

  test('a tunnel that is open outlives the time that an attempt has', async (t) => {
    const started = t.mock.method(globalThis, 'setTimeout');
    const cleared = t.mock.method(globalThis, 'clearTimeout');
    const node = await script(t);
    const attempt = started.mock.calls.find(({ arguments: [, ms] }) => ms === CONNECT_TIMEOUT_MS);
    assert.ok(attempt, 'an attempt has a timer');
    const isCleared = () => cleared.mock.calls.some(({ arguments: [timer] }) => timer === attempt.result);
    assert.equal(isCleared(), false);
    await node.open();
    assert.equal(isCleared(), true);
    assert.equal(node.client.endReason, undefined);
  });

  test('a node that takes nothing is waited for: what is not taken stays with the packet thread', async (t) => {
    const node = await script(t, { server: { settings: { enableConnectProtocol: true, initialWindowSize: 0 } } });
    await node.open();
    const chunk = new Uint8Array(65_536);
    let written = 0;
    let refusals = 0;
    await node.until(() => {
      const taken = node.write(chunk);
      written += Math.max(0, taken);
      refusals = taken > 0 ? 0 : refusals + 1;
      return refusals > 20;
    }, 'a full channel');
    assert.ok(written < 2 * 1024 * 1024, `${written} bytes`);
  });

  test('a hundred connections leave no descriptor behind, however they end', async (t) => {
    const before = descriptors();
    for (let i = 0; i < 100; i++) {
      const node = await ScriptedHttp2Node.start(pem);
      const stream = await node.open();
      const end = i % 4;
      if (end === 0) stream.end();
      else if (end === 1) stream.close(constants.NGHTTP2_CANCEL);
      else if (end === 2) node.closeChannel();
      else node.sessions[0]?.destroy();
      if (end !== 2) await node.channelEnd();
      node.client.close();
      await node.release();
    }
    await waitFor(() => descriptors() <= before, { timeoutMs: 5_000, what: `${before} descriptors` });
    t.diagnostic(`${before} descriptors before, ${descriptors()} after`);
  });
});

async function authority(
  t: TestContext,
  name: string,
): Promise<{ directory: string; authority: CertificateAuthority }> {
  const directory = temporaryDirectory(t);
  return { directory, authority: await createAuthority(directory, name) };
}

function descriptors(): number {
  return readdirSync('/proc/self/fd').length;
}
