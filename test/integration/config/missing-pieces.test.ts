import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createAuthority, issueServerCertificate } from '../../../deploy/local/certificate.ts';
import { needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { CLIENT, NODE, type Outcome, runMain } from './run-process.ts';

const skip = needsRoot();
const SECRET = 'sesame-0123456789';
/** A network of its own, so that no interface of the machine is touched. */
const APART = ['unshare', '--net', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh'];
/** And a /dev/net without a TUN device. */
const WITHOUT_TUN = [
  'unshare',
  '--net',
  '--mount',
  'sh',
  '-c',
  'ip link set lo up && mount -t tmpfs none /dev/net && exec "$@"',
  'sh',
];

async function nodeEnv(t: TestContext): Promise<Record<string, string>> {
  const directory = temporaryDirectory(t);
  const authority = await createAuthority(directory);
  const issued = await issueServerCertificate(authority, directory, 'node', ['node-a.test']);
  return {
    NODE_ID: 'node-a',
    NATS_URL: `nats://u:${SECRET}@127.0.0.1:1`,
    TLS_CERT: issued.certificateFile,
    TLS_KEY: issued.keyFile,
    STATE_DIR: join(directory, 'state'),
    LISTEN: '127.0.0.1:0',
    HTTP_LISTEN: '127.0.0.1:0',
  };
}

function clientArgs(t: TestContext): string[] {
  const ca = join(temporaryDirectory(t), 'ca.pem');
  writeFileSync(ca, '-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n');
  return ['--url', 'https://127.0.0.1:9/', '--ca', ca, '--token', SECRET];
}

/** It has ended with code 1 and said why in one line, without a stack and without a secret. */
function assertFailed({ status, stderr, stdout }: Outcome, why: RegExp, code: string): void {
  assert.equal(status, 1, stderr);
  assert.equal(stdout, '');
  const fatal = stderr
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { level: number; msg: string; code?: string });
  assert.deepEqual(
    fatal.map(({ level }) => level),
    [60],
    stderr,
  );
  assert.match(fatal[0]?.msg ?? '', why);
  assert.equal(fatal[0]?.code, code);
  assert.doesNotMatch(stderr, /\bat .*\.ts:\d+/);
  assert.ok(!stderr.includes(SECRET));
}

test('a node whose UDP port is in use ends and names it', { skip }, async (t) => {
  const blocker = createSocket('udp4').bind(0, '127.0.0.1');
  await once(blocker, 'listening');
  t.after(() => blocker.close());
  const address = `127.0.0.1:${blocker.address().port}`;
  const outcome = runMain(NODE, { ...(await nodeEnv(t)), LISTEN: address });
  assertFailed(outcome, new RegExp(`bind ${address}: address already in use`), 'EADDRINUSE');
});

test('a node whose HTTP port is in use ends and names it', async (t) => {
  const blocker = createServer().listen(0, '127.0.0.1');
  await once(blocker, 'listening');
  t.after(() => blocker.close());
  const address = `127.0.0.1:${(blocker.address() as { port: number }).port}`;
  const outcome = runMain(NODE, { ...(await nodeEnv(t)), HTTP_LISTEN: address });
  assertFailed(outcome, new RegExp(`${address}.*the port is in use`), 'LISTEN_FAILED');
});

test('without /dev/net/tun a node and a client end and say what to do', { skip }, async (t) => {
  const why = /\/dev\/net\/tun is missing: load the kernel module "tun"/;
  assertFailed(runMain(NODE, await nodeEnv(t), [], WITHOUT_TUN), why, 'TUN_MISSING');
  assertFailed(runMain(CLIENT, {}, clientArgs(t), WITHOUT_TUN), why, 'TUN_MISSING');
});

test('without the right to make interfaces both say so', { skip }, async (t) => {
  const dropped = [...APART, 'setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin'];
  const why = /no right to make interface masque%d \(CAP_NET_ADMIN\)/;
  assertFailed(runMain(NODE, await nodeEnv(t), [], dropped), why, 'TUN_NOT_PERMITTED');
  assertFailed(runMain(CLIENT, {}, clientArgs(t), dropped), why, 'TUN_NOT_PERMITTED');
});

test('a state directory that another node uses is refused', { skip }, async (t) => {
  const env = await nodeEnv(t);
  mkdirSync(env.STATE_DIR ?? '', { recursive: true });
  const { NodeDatabase } = await import('../../../data-plane/state/node-database.ts');
  const other = new NodeDatabase(env.STATE_DIR ?? '');
  t.after(() => other.close());
  const outcome = runMain(NODE, env, [], APART);
  assert.equal(outcome.status, 1, outcome.stderr);
  assert.match(outcome.stderr, /another process|in use|is used/);
  assert.equal(outcome.stderr.trimEnd().split('\n').length, 1, outcome.stderr);
});
