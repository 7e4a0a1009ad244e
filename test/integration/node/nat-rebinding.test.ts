import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ip } from '../../../deploy/local/ip-command.ts';
import { hasIpv6, inNamespace } from '../../../deploy/local/netns-topology.ts';
import { sumOf } from '../../../deploy/local/prometheus-text.ts';
import { createService } from '../../../deploy/local/service.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { UdpNat } from '../../support/udp-nat.ts';
import { waitFor } from '../../support/wait-for.ts';
import { nodeMetrics, startOneNode } from './node-setup.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 20_000;
const CLIENT = fileURLToPath(new URL('../../../data-plane/client/main.ts', import.meta.url));
/** Of the segment's sixteen addresses, one that a cluster of one client does not use. */
const SPARE_HOST = 14;

test('RFC 9000 9: a client behind a NAT that gives it another port, and then another address, keeps its tunnel and its downloads', {
  skip,
}, async (t) => {
  const directory = temporaryDirectory(t);
  const nodeEnv = { TRAFFIC_WINDOW_MS: '1000' };
  const cluster = await startOneNode({ directory, clients: ['roaming'], connect: [], nodeEnv });
  t.after(() => cluster.stop());
  const node = cluster.node('node-a');
  const client = cluster.client('roaming');
  const { rootAddress, rootInterface } = cluster.plan;
  const elsewhere = rootAddress.replace(/\d+$/, (host) => String(Number(host) - 1 + SPARE_HOST));
  await ip('address', 'add', `${elsewhere}/28`, 'dev', rootInterface);
  const nat = await UdpNat.start(rootAddress, new URL(node.url).host);
  t.after(() => nat.close());

  const [command, args] = inNamespace(client.place.namespace, process.execPath, [
    CLIENT,
    ...['--url', `https://${node.serverName}:4433/.well-known/masque/ip/*/*/`],
    ...['--connect-to', nat.address, '--transport', 'http3'],
    ...['--ca', join(cluster.directory, 'pki', 'ca.pem')],
    ...['--routes', cluster.plan.behindPrefixes.filter((prefix) => hasIpv6() || !prefix.includes(':')).join(',')],
    ...['--status-file', join(cluster.directory, 'clients', client.id, 'status.json')],
  ]);
  const service = createService({
    name: 'roaming client',
    command,
    args,
    env: { MASQUE_VPN_TOKEN: client.token },
    logFile: join(cluster.directory, 'clients', client.id, 'roaming.log'),
    ready: { what: 'tunnel', timeoutMs: TIMEOUT_MS, probe: () => client.status()?.state === 'connected' },
  });
  t.after(() => service.stop());
  await service.start();

  const downloads = () => Object.values(client.traffic()?.hosts ?? {});
  const intact = () => downloads().reduce((sum, host) => sum + host.intact, 0);
  const untilMore = async (count: number) => {
    const before = intact();
    await waitFor(() => intact() >= before + count, { timeoutMs: TIMEOUT_MS, what: `${count} more downloads` });
  };
  const bytesOut = async () =>
    sumOf(await nodeMetrics(cluster), 'masque_vpn_node_bytes_total', { client_id: 'roaming', direction: 'out' });

  await client.startTraffic({ bytesPerDownload: 5_000_000, pauseMs: 0 });
  await untilMore(2);
  const first = nat.mapping;
  for (const address of [rootAddress, rootAddress, elsewhere, rootAddress]) {
    const before = await bytesOut();
    const old = nat.mapping;
    await nat.rebind(address);
    assert.notEqual(nat.mapping, old);
    await untilMore(2);
    assert.ok(nat.fromServer > 1_000, `${nat.fromServer} packets came to ${nat.mapping}`);
    await waitFor(async () => (await bytesOut()) > before, { timeoutMs: TIMEOUT_MS, what: 'the counters to go on' });
  }
  await client.stopTraffic();
  assert.ok(downloads().every(({ failed, corrupt }) => failed + corrupt === 0));
  assert.deepEqual([client.status()?.state, client.status()?.connects], ['connected', 1]);

  // At rest, the mapping is kept in use from both sides.
  const [sent, received] = [nat.fromClient, nat.fromServer];
  await waitFor(() => nat.fromClient >= sent + 3 && nat.fromServer >= received + 3, {
    timeoutMs: TIMEOUT_MS,
    what: 'signs of life',
  });
  const rows = await cluster.sql<{ state: string; remote: string }>(
    `SELECT state, host(remote_address) || ':' || remote_port AS remote FROM connections`,
  );
  assert.deepEqual(rows, [{ state: 'open', remote: first }]);
});
