import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { scrape } from '../../../deploy/local/http-client.ts';
import { hasIpv6, inNamespace } from '../../../deploy/local/netns-topology.ts';
import { sumOf } from '../../../deploy/local/prometheus-text.ts';
import { createService } from '../../../deploy/local/service.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { waitFor } from '../../support/wait-for.ts';
import { startOneNode, udpSeen } from './node-setup.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping');
const TIMEOUT_MS = 20_000;
const CLIENT = fileURLToPath(new URL('../../../data-plane/client/main.ts', import.meta.url));
const PROBE = fileURLToPath(new URL('./udp-probe.ts', import.meta.url));
/** Where nobody listens: a datagram that arrives is answered with port unreachable. */
const CLOSED_PORT = '9';
/** What the kernel makes of ICMP's "administratively prohibited", in IPv4 and IPv6. */
const PROHIBITED = ['EHOSTUNREACH', 'EACCES'];

test('9484-4.6 a tunnel of protocol 6: TCP and pings pass, UDP passes neither way and its senders are told', {
  skip,
}, async (t) => {
  const directory = temporaryDirectory(t);
  const nodeEnv = { TRAFFIC_WINDOW_MS: '1000' };
  const cluster = await startOneNode({ directory, clients: ['client-1'], connect: [], nodeEnv });
  t.after(() => cluster.stop());
  const node = cluster.node('node-a');
  const client = cluster.client('client-1');
  const { behind } = node.place;
  const { namespace } = client.place;
  const servers = hasIpv6() ? [behind.address, behind.address6] : [behind.address];

  const [command, args] = inNamespace(namespace, process.execPath, [
    CLIENT,
    ...['--url', `https://${node.serverName}:4433/.well-known/masque/ip/*/6/`],
    ...['--connect-to', new URL(node.url).host],
    ...['--ca', join(cluster.directory, 'pki', 'ca.pem')],
    ...['--routes', cluster.plan.behindPrefixes.filter((prefix) => hasIpv6() || !prefix.includes(':')).join(',')],
    ...['--status-file', join(cluster.directory, 'clients', client.id, 'status.json')],
  ]);
  const scoped = createService({
    name: 'scoped client',
    command,
    args,
    env: { MASQUE_VPN_TOKEN: client.token },
    logFile: join(cluster.directory, 'clients', client.id, 'scoped.log'),
    ready: { what: 'tunnel', timeoutMs: TIMEOUT_MS, probe: () => client.status()?.state === 'connected' },
  });
  t.after(() => scoped.stop());
  await scoped.start();

  const drops = async () => sumOf(await scrape(node.metricsUrl), 'masque_vpn_node_drops_total', { reason: 'scope' });
  await client.startTraffic({ bytesPerDownload: 100_000, pauseMs: 100 });
  await waitFor(() => (client.traffic()?.rounds ?? 0) >= 3, { timeoutMs: TIMEOUT_MS, what: 'three rounds of traffic' });
  const traffic = await client.stopTraffic();
  assert.equal(traffic?.pingsAnswered, traffic?.pingsSent);
  for (const server of servers) {
    const { downloads, intact } = traffic?.hosts[server] ?? {};
    assert.ok((downloads ?? 0) >= 3 && downloads === intact, `${server}: ${intact} of ${downloads} downloads`);
  }

  const before = { seen: await udpSeen(behind.namespace), drops: await drops() };
  const upward = await Promise.all(servers.map((server) => probe(namespace, server)));
  assert.deepEqual(upward, PROHIBITED.slice(0, servers.length));
  assert.equal(await udpSeen(behind.namespace), before.seen);
  const own = (client.status()?.addresses ?? []).map((prefix) => prefix.split('/')[0] ?? '').slice(0, servers.length);
  const downward = await Promise.all(own.map((address) => probe(behind.namespace, address)));
  assert.deepEqual(downward, PROHIBITED.slice(0, servers.length));
  const dropped = 2 * servers.length;
  await waitFor(async () => (await drops()) >= before.drops + dropped, { timeoutMs: TIMEOUT_MS, what: 'the drops' });
  assert.equal(await drops(), before.drops + dropped);

  await scoped.stop();
  await client.service.start();
  assert.deepEqual(
    await Promise.all(servers.map((server) => probe(namespace, server))),
    servers.map(() => 'ECONNREFUSED'),
    'without the scope they arrive',
  );
});

async function probe(namespace: string, address: string): Promise<string> {
  const [command, args] = inNamespace(namespace, process.execPath, [PROBE, address, CLOSED_PORT]);
  return (await promisify(execFile)(command, args)).stdout;
}
