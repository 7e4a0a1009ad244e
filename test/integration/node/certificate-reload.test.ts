import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { connect } from 'node:tls';
import { createAuthority, issueServerCertificate } from '../../../deploy/local/certificate.ts';
import { sumOf } from '../../../deploy/local/prometheus-text.ts';
import { needsBinary, needsRoot } from '../../support/requirements.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import { TestPeer } from '../../support/test-peer.ts';
import { waitFor } from '../../support/wait-for.ts';
import { nodeMetrics, Pinging, startOneNode, targetOf } from './node-setup.ts';

const skip = needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping');
const TIMEOUT_MS = 20_000;

/** Resolves when the node's TCP port shows a certificate of this authority. */
async function greetsOverTls(server: string, servername: string, ca: string): Promise<void> {
  const { hostname: host, port } = new URL(`https://${server}`);
  const socket = connect({ host, port: Number(port), servername, ca, ALPNProtocols: ['h2'] });
  await once(socket, 'secureConnect');
  socket.destroy();
}

test('a certificate that is renewed on disk is what new clients see; open tunnels lose no packet', {
  skip,
}, async (t) => {
  const directory = temporaryDirectory(t);
  const nodeEnv = { TRAFFIC_WINDOW_MS: '1000' };
  const cluster = await startOneNode({ directory, clients: ['steady', 'late'], connect: ['steady'], nodeEnv });
  t.after(() => cluster.stop());
  const node = cluster.node('node-a');
  const steady = cluster.client('steady');
  const files = { certificate: join(directory, 'nodes/node-a/tls/node-a.pem'), key: '' };
  files.key = files.certificate.replace('.pem', '.key');
  const target = targetOf(cluster);
  const { token } = cluster.client('late');
  const metric = async (name: string, labels = {}) =>
    sumOf(await nodeMetrics(cluster), `masque_vpn_node_${name}`, labels);
  const until = (name: string, labels: Record<string, string>, value: number) =>
    waitFor(async () => (await metric(name, labels)) === value, { timeoutMs: TIMEOUT_MS, what: `${name} ${value}` });
  const logged = (text: string) => readFileSync(node.service.logFile, 'utf8').split(text).length - 1;

  const pinging = new Pinging(steady.place.namespace, node.place.behind.address);
  await steady.startTraffic({ bytesPerDownload: 1_000_000, pauseMs: 20 });
  await until('quic_cores', {}, 1);
  const expiry = await metric('tls_certificate_expiry_timestamp_seconds');

  // Both at once, as far as that is possible, and found without being told.
  const authority = await createAuthority(join(directory, 'renewed'), 'renewed');
  const issued = await issueServerCertificate(authority, dirname(authority.certificateFile), 'node', [node.serverName]);
  renameSync(issued.keyFile, files.key);
  renameSync(issued.certificateFile, files.certificate);
  await until('tls_reloads_total', { result: 'success' }, 1);
  assert.ok((await metric('tls_certificate_expiry_timestamp_seconds')) > expiry);
  const renewed = { ...target, ca: authority.certificate };
  const late = await TestPeer.open(renewed, token);
  await until('quic_cores', {}, 2);
  await greetsOverTls(new URL(node.url).host, node.serverName, authority.certificate);
  const bytes = { client_id: 'steady', direction: 'out' };
  const before = await metric('bytes_total', bytes);
  await waitFor(async () => (await metric('bytes_total', bytes)) > before, {
    timeoutMs: TIMEOUT_MS,
    what: 'more traffic',
  });

  // The cause is told once; at SIGHUP at once.
  writeFileSync(files.key, 'no key');
  node.service.process().signal('SIGHUP');
  await until('tls_reloads_total', { result: 'failure' }, 1);
  assert.equal(logged('expected a PEM file with a private key'), 1);
  (await TestPeer.open(renewed, cluster.client('late').token)).close();

  const traffic = await steady.stopTraffic();
  const hosts = Object.values(traffic?.hosts ?? {});
  assert.ok(hosts.length > 0 && hosts.every(({ intact, failed, corrupt }) => intact > 0 && failed + corrupt === 0));
  const { sent, received } = await pinging.stop();
  assert.ok(sent - received <= 1, `${received} of ${sent} pings came back`);
  assert.deepEqual([steady.status()?.state, steady.status()?.connects], ['connected', 1]);
  await steady.service.stop();
  await until('quic_cores', {}, 1);
  assert.equal(await late.request(token), 200);
  late.close();
});
