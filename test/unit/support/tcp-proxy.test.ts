import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { TcpProxy } from '../../support/tcp-proxy.ts';
import { waitFor } from '../../support/wait-for.ts';

const TIMEOUT_MS = 5_000;

/** A server that answers what it hears, behind a proxy, and a client of it. */
async function setUp(t: TestContext): Promise<{ proxy: TcpProxy; client: Socket; heard: () => string }> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.pipe(socket);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const proxy = await TcpProxy.start({ host: '127.0.0.1', port: (server.address() as { port: number }).port });
  t.after(() => {
    proxy.close();
    server.close();
  });
  const client = connect(proxy.port, '127.0.0.1');
  await once(client, 'connect');
  let heard = '';
  client.on('data', (bytes) => (heard += bytes));
  client.on('error', () => undefined);
  return { proxy, client, heard: () => heard };
}

const until = (probe: () => boolean, what: string) => waitFor(probe, { timeoutMs: TIMEOUT_MS, what, intervalMs: 5 });

test('an open link passes everything on, in order, and its end', async (t) => {
  const { client, heard } = await setUp(t);
  const text = Array.from({ length: 50_000 }, (_, i) => `${i} `).join('');
  client.end(text);
  await once(client, 'close');
  assert.ok(heard() === text, `${heard().length} of ${text.length} characters`);
});

test('a delayed link passes it on later, each way', async (t) => {
  const { proxy, client, heard } = await setUp(t);
  proxy.set({ kind: 'open', delayMs: 100 });
  const since = performance.now();
  client.write('hello');
  await until(() => heard() === 'hello', 'the echo');
  assert.ok(performance.now() - since >= 200);
});

test('a stalled link passes nothing on, and all of it when it is open again', async (t) => {
  const { proxy, client, heard } = await setUp(t);
  client.write('one ');
  await until(() => heard() === 'one ', 'the first echo');
  proxy.set({ kind: 'stalled' });
  client.write('two');
  const other = connect(proxy.port, '127.0.0.1');
  t.after(() => other.destroy());
  await once(other, 'connect');
  const later = performance.now() + 100;
  await until(() => performance.now() > later, 'a while');
  assert.equal(heard(), 'one ');
  proxy.set({ kind: 'open', delayMs: 0 });
  await until(() => heard() === 'one two', 'the second echo');
});

test('a cut link ends its connections and takes no new ones', async (t) => {
  const { proxy, client } = await setUp(t);
  proxy.set({ kind: 'cut' });
  await once(client, 'close');
  const refused = connect(proxy.port, '127.0.0.1');
  refused.on('error', () => undefined);
  await once(refused, 'close');
  proxy.set({ kind: 'open', delayMs: 0 });
  const again = connect(proxy.port, '127.0.0.1');
  t.after(() => again.destroy());
  again.write('back');
  const [bytes] = await once(again, 'data');
  assert.equal(String(bytes), 'back');
});

test('a link that is to be cut behind some bytes passes those on, and takes new connections', async (t) => {
  const { proxy, client, heard } = await setUp(t);
  client.write('one');
  await until(() => heard() === 'one', 'the first echo');
  const closed = once(client, 'close');
  proxy.cutAfter('twothree'.length);
  client.write('two');
  await until(() => heard() === 'onetwo', 'the second echo');
  client.write('three');
  await closed;
  assert.equal(proxy.passed, 'onetwothree'.length);
  const again = connect(proxy.port, '127.0.0.1');
  t.after(() => again.destroy());
  again.write('back');
  const [bytes] = await once(again, 'data');
  assert.equal(String(bytes), 'back');
});
