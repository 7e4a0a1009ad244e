import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { startProcess } from '../../../deploy/local/child-process.ts';
import { freePort } from '../../../deploy/local/free-port.ts';
import { startNatsServer } from '../../../deploy/local/nats-server.ts';
import { startPostgres } from '../../../deploy/local/postgres.ts';
import { needsBinary } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { waitFor } from '../../support/wait-for.ts';
import { ADMIN_TOKEN } from './control-plane-setup.ts';

const MAIN = join(import.meta.dirname, '../../../control-plane/main.ts');
const TIMEOUT_MS = 30_000;

function runMain(env: Record<string, string>, ...args: string[]) {
  return spawnSync(process.execPath, [MAIN, ...args], {
    env: { PATH: process.env.PATH ?? '', ...env },
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
  });
}

const nowhere = {
  DATABASE_URL: 'postgres://u:secret-word@127.0.0.1:1/vpn',
  NATS_URL: 'nats://127.0.0.1:1',
  ADMIN_TOKEN,
};

test('--help lists every variable', () => {
  const { status, stdout } = runMain({}, '--help');
  assert.equal(status, 0);
  for (const name of ['DATABASE_URL', 'NATS_URL', 'HTTP_LISTEN', 'ADMIN_TOKEN', 'POOLS', 'LEASE_SECONDS']) {
    assert.match(stdout, new RegExp(`^  ${name} `, 'm'));
  }
});

test('a bad variable ends it with code 2 and one line that names it', () => {
  const { status, stderr } = runMain({ ...nowhere, BLOCK_PREFIX_V4: 'wide' });
  assert.equal(status, 2);
  const refusal = 'BLOCK_PREFIX_V4: got "wide", expected a whole number from 8 to 30';
  assert.equal(stderr, `masque-vpn control plane: ${refusal}; help: node control-plane/main.ts --help\n`);
});

test('a port in use ends it with code 1 and one line', async (t) => {
  const blocker = createServer();
  const port = await new Promise<number>((resolve) =>
    blocker.listen(0, '127.0.0.1', () => resolve((blocker.address() as { port: number }).port)),
  );
  t.after(() => blocker.close());
  const { status, stderr } = runMain({ ...nowhere, HTTP_LISTEN: `127.0.0.1:${port}` });
  assert.equal(status, 1);
  assert.equal(stderr.trim().split('\n').length, 1);
  assert.match(stderr, new RegExp(`cannot listen on 127.0.0.1:${port} \\(HTTP_LISTEN\\): the port is in use`));
});

test('it waits for Postgres and NATS, answers 503 until then, and is ready when they are there', {
  skip: needsBinary('nats-server', 'nats-server'),
}, async (t) => {
  const directory = temporaryDirectory(t);
  // Started once, to have their passwords, and stopped again.
  let postgres = await startPostgres({ directory: join(directory, 'postgres'), settings: { fsync: 'off' } });
  let nats = await startNatsServer({ directory: join(directory, 'nats') });
  await Promise.all([postgres.stop(), nats.stop()]);
  const port = await freePort('127.0.0.1');
  const url = `http://127.0.0.1:${port}`;
  const controlPlane = await startProcess({
    name: 'control-plane',
    command: process.execPath,
    args: [MAIN],
    env: { DATABASE_URL: postgres.url, NATS_URL: nats.url, HTTP_LISTEN: `127.0.0.1:${port}`, ADMIN_TOKEN },
    logFile: join(directory, 'control-plane.log'),
  });
  try {
    const status = async (path: string) => (await fetch(url + path, authorized)).status;
    const authorized = { headers: { authorization: `Bearer ${ADMIN_TOKEN}` } };
    await waitFor(async () => (await status('/healthz')) === 200, { timeoutMs: TIMEOUT_MS, what: 'the API' });
    assert.equal(await status('/readyz'), 503);
    assert.equal(await status('/v1/nodes'), 503);
    assert.equal(await status('/metrics'), 200);
    const log = await waitFor(
      () => {
        const text = controlPlane.lastLogLines(100);
        return text.includes('Postgres is not reachable') && text.includes('NATS is not reachable') && text;
      },
      { timeoutMs: TIMEOUT_MS, what: 'a line for each' },
    );
    assert.ok(!log.includes(new URL(postgres.url).password) && !log.includes(new URL(nats.url).password));
    [postgres, nats] = await Promise.all([postgres.restart(), nats.restart()]);
    await waitFor(async () => (await status('/readyz')) === 200, { timeoutMs: TIMEOUT_MS, what: 'readiness' });

    await postgres.kill();
    await waitFor(async () => (await status('/readyz')) === 503, { timeoutMs: TIMEOUT_MS, what: 'unreadiness' });
    postgres = await postgres.restart();
    await waitFor(async () => (await status('/readyz')) === 200, { timeoutMs: TIMEOUT_MS, what: 'readiness again' });
    assert.deepEqual(await controlPlane.stop(), { code: 0, signal: null });
  } finally {
    await controlPlane.kill();
    await Promise.all([postgres.kill(), nats.kill()]);
  }
});
