import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readClientStatus } from '../../deploy/local/client-status.ts';
import { startCluster } from '../../deploy/local/cluster.ts';
import { needsBinary, needsRoot } from '../support/requirements.ts';
import { StopWaiting, waitFor } from '../support/wait-for.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping');
const main = fileURLToPath(new URL('../../data-plane/client/main.ts', import.meta.url));

test('a client that takes the advertised default route sends all but its tunnel into it, and leaves no route behind', {
  skip,
}, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'mvpn-route-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const nodeEnv = { ADVERTISE_ROUTES: '0.0.0.0/0,::/0' };
  const cluster = await startCluster({ directory, nodes: ['node-a'], clients: ['client-1'], connect: [], nodeEnv });
  t.after(() => cluster.stop());
  const client = cluster.client('client-1');
  const node = cluster.node('node-a');
  const inClient = (...command: string[]): string =>
    execFileSync('ip', ['netns', 'exec', client.place.namespace, ...command], { encoding: 'utf8' });
  const routes = (): string => inClient('ip', 'route') + inClient('ip', '-6', 'route');
  const before = routes();

  const statusFile = join(directory, 'status.json');
  const url = `https://${node.serverName}:4433/.well-known/masque/ip/*/*/`;
  const child = spawn(
    'ip',
    [
      'netns',
      'exec',
      client.place.namespace,
      process.execPath,
      main,
      '--url',
      url,
      '--connect-to',
      new URL(node.url).host,
      '--ca',
      join(directory, 'pki', 'ca.pem'),
      '--tun',
      'masque0',
      '--status-file',
      statusFile,
    ],
    { env: { ...process.env, MASQUE_VPN_TOKEN: client.token }, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let log = '';
  child.stderr.on('data', (chunk) => {
    log += chunk;
  });
  t.after(() => child.kill('SIGKILL'));
  await waitFor(
    () => {
      if (child.exitCode !== null) throw new StopWaiting(log);
      return readClientStatus(statusFile)?.state === 'connected';
    },
    { timeoutMs: 15_000, what: 'the tunnel' },
  );

  assert.match(inClient('ip', 'route', 'get', '203.0.113.1'), /dev masque0/);
  assert.match(inClient('ip', 'route', 'get', node.place.address), /dev (?!masque0)/);
  inClient('ping', '-c', '3', '-i', '0.2', '-W', '2', node.place.behind.address);

  child.kill('SIGTERM');
  const [code] = (await once(child, 'exit')) as [number];
  assert.equal(code, 0, log);
  assert.equal(routes(), before);
});
