import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { NatsConnection } from 'nats';
import { startNatsServer } from '../../../deploy/local/nats-server.ts';
import { createLogger } from '../../../shared/log/logger.ts';
import { connectNats } from '../../../shared/nats/connect.ts';
import { needsBinary } from '../../support/requirements.ts';
import { TcpProxy } from '../../support/tcp-proxy.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { waitFor } from '../../support/wait-for.ts';

const skip = needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 20_000;

function countLosses(connection: NatsConnection): { count: number } {
  const losses = { count: 0 };
  void (async () => {
    for await (const { type } of connection.status()) if (type === 'disconnect') losses.count++;
  })();
  return losses;
}

async function untilAnswered(connection: NatsConnection): Promise<void> {
  const answers = () =>
    connection.flush().then(
      () => true,
      () => false,
    );
  await waitFor(answers, { timeoutMs: TIMEOUT_MS, what: 'an answer' });
}

test('a password that is wrong for a while ends no connection', { skip }, async (t) => {
  const directory = temporaryDirectory(t);
  const changePassword = (text: string) => writeFileSync(join(directory, 'password'), `${text}\n`);
  let server = await startNatsServer({ directory });
  t.after(() => server.stop());
  const { password } = new URL(server.url);
  const log = createLogger('test', 'silent');
  const connection = await connectNats(server.url, 'test', log, new AbortController().signal);
  t.after(() => connection.close());
  const losses = countLosses(connection);

  await server.stop();
  changePassword('another-password');
  server = await server.restart();
  // The first is the loss itself; the library alone would give up at the second refusal.
  await waitFor(() => losses.count > 3 || connection.isClosed(), { timeoutMs: TIMEOUT_MS, what: 'refusals' });
  assert.equal(connection.isClosed(), false);

  await server.stop();
  changePassword(password);
  server = await server.restart();
  await untilAnswered(connection);
});

test('attempts to connect that were given up leave nothing behind when a server that stood still goes on', {
  skip,
}, async (t) => {
  const server = await startNatsServer({ directory: temporaryDirectory(t) });
  t.after(() => server.stop());
  const proxy = await TcpProxy.inFrontOf(server.url);
  t.after(() => proxy.close());
  const log = createLogger('test', 'silent');
  const connection = await connectNats(proxy.over(server.url), 'test', log, new AbortController().signal);
  t.after(() => connection.close());
  const losses = countLosses(connection);

  server.process.signal('SIGSTOP');
  proxy.set({ kind: 'cut' });
  await waitFor(() => losses.count === 1, { timeoutMs: TIMEOUT_MS, what: 'the loss' });
  proxy.set({ kind: 'open', delayMs: 0 });
  const before = proxy.accepted;
  await waitFor(() => proxy.accepted >= before + 2, { timeoutMs: TIMEOUT_MS, what: 'a second attempt' });
  server.process.signal('SIGCONT');
  await untilAnswered(connection);
  await waitFor(() => proxy.open === 1, { timeoutMs: TIMEOUT_MS, what: 'one connection to the server' });
  await untilAnswered(connection);
  assert.equal(losses.count, 1);
});
