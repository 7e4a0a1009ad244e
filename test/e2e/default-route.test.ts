import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readClientStatus } from '../../deploy/local/client-status.ts';
import { startCluster } from '../../deploy/local/cluster.ts';
import { needsBinary, needsRoot } from '../support/requirements.ts';
import { StopWaiting, waitFor } from '../support/wait-for.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping');
const main = fileURLToPath(new URL('../../data-plane/client/main.ts', import.meta.url));

for (const transport of ['http3', 'http2']) {
  test(
    `over ${transport} a client with the advertised default route sends all but its tunnel into it, finds back after its link was down, and leaves no route behind`,
    {
      skip,
    },
    (t) => useDefaultRoute(t, transport),
  );
}

async function useDefaultRoute(t: TestContext, transport: string): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'mvpn-route-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const nodeEnv = { ADVERTISE_ROUTES: '0.0.0.0/0,::/0' };
  const cluster = await startCluster({ directory, nodes: ['node-a'], clients: ['client-1'], connect: [], nodeEnv });
  t.after(() => cluster.stop());
  const client = cluster.client('client-1');
  const node = cluster.node('node-a');
  const inClient = (...command: string[]): string =>
    execFileSync('ip', ['netns', 'exec', client.place.namespace, ...command], { encoding: 'utf8' });
  const routes = (): string[] => (inClient('ip', 'route') + inClient('ip', '-6', 'route')).split('\n');
  const [{ dev: link }] = JSON.parse(inClient('ip', '-j', 'route', 'get', node.place.address));
  /** As if the node were far away: nothing but the default route leads to it. */
  const leadByDefaultRoute = (): void => {
    const connected = JSON.parse(inClient('ip', '-j', '-4', 'route', 'show', 'dev', link, 'scope', 'link'));
    for (const { dst } of connected) inClient('ip', 'route', 'delete', dst, 'dev', link);
    inClient('ip', 'route', 'add', 'default', 'dev', link);
  };
  leadByDefaultRoute();
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
      '--transport',
      transport,
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

  // The link goes and comes back while there is no tunnel: its routes went with it, those into the tunnel did not.
  await node.service.stop();
  inClient('ip', 'link', 'set', 'dev', link, 'down');
  inClient('ip', 'link', 'set', 'dev', link, 'up');
  leadByDefaultRoute();
  await node.service.start();
  await waitFor(() => (readClientStatus(statusFile)?.connects ?? 0) > 1, { timeoutMs: 20_000, what: 'a new tunnel' });
  inClient('ping', '-c', '3', '-i', '0.2', '-W', '2', node.place.behind.address);

  child.kill('SIGTERM');
  const [code] = (await once(child, 'exit')) as [number];
  assert.equal(code, 0, log);
  // The kernel took the IPv6 address of the link when it went down, and its route with it.
  assert.deepEqual(
    routes().filter((route) => !before.includes(route)),
    [],
  );
}
