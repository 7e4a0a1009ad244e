import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { startNatsServer } from '../../../deploy/local/nats-server.ts';
import { createLogger } from '../../../shared/log/logger.ts';
import { connectNats } from '../../../shared/nats/connect.ts';
import { needsBinary } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { waitFor } from '../../support/wait-for.ts';

const skip = needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 20_000;

test('a password that is wrong for a while ends no connection', { skip }, async (t) => {
  const directory = temporaryDirectory(t);
  const changePassword = (text: string) => writeFileSync(join(directory, 'password'), `${text}\n`);
  let server = await startNatsServer({ directory });
  t.after(() => server.stop());
  const { password } = new URL(server.url);
  const log = createLogger('test', 'silent');
  const connection = await connectNats(server.url, 'test', log, new AbortController().signal);
  t.after(() => connection.close());
  let refusals = 0;
  void (async () => {
    for await (const { type } of connection.status()) if (type === 'disconnect') refusals++;
  })();

  await server.stop();
  changePassword('another-password');
  server = await server.restart();
  // The first is the loss itself; the library alone would give up at the second refusal.
  await waitFor(() => refusals > 3 || connection.isClosed(), { timeoutMs: TIMEOUT_MS, what: 'refusals' });
  assert.equal(connection.isClosed(), false);

  await server.stop();
  changePassword(password);
  server = await server.restart();
  await waitFor(
    () =>
      connection.flush().then(
        () => true,
        () => false,
      ),
    { timeoutMs: TIMEOUT_MS, what: 'an answer' },
  );
});
