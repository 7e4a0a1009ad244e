import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { RETRY_FROM_HANDSHAKES } from '../../data-plane/quic/initial-gate.ts';
import { UdpSocket } from '../../data-plane/udp/udp-socket.ts';
import { createAuthority, issueServerCertificate } from '../../deploy/local/certificate.ts';
import { startProcess } from '../../deploy/local/child-process.ts';
import { readClientStatus } from '../../deploy/local/client-status.ts';
import { type Cluster, startCluster } from '../../deploy/local/cluster.ts';
import { scrape } from '../../deploy/local/http-client.ts';
import { inNamespace } from '../../deploy/local/netns-topology.ts';
import { sumOf } from '../../deploy/local/prometheus-text.ts';
import { pseudoRandomBytes } from '../../deploy/local/pseudo-random.ts';
import { formatPrefix, parsePrefix } from '../../shared/ip/prefix.ts';
import { needsBinary, needsGo, needsRoot } from '../support/requirements.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { waitFor } from '../support/wait-for.ts';
import { craftInitial } from '../unit/quic/craft-initial.ts';
import { ConnectIpGo, type InteropProcess } from './support/connect-ip-go.ts';

/*
 * What connect-ip-go's own integration tests cover, with one end of the tunnel ours: its client at our node, and our client at a
 * proxy that is built on it. The newest version and the first one.
 */

const run = promisify(execFile);
const skip =
  needsRoot() || needsBinary('nats-server', 'nats-server') || needsBinary('ping', 'iputils-ping') || needsGo();

const MEBIBYTE = 2 ** 20;
const PINGS = 50;
const TIMEOUT_MS = 15_000;
const HTTP_PORT = 8080;
const INNER_HTTP3_PORT = 8443;
const FOREIGN_TUN = 'foreign0';
const PATH = '/.well-known/masque/ip/*/*/';
/** What the proxies on connect-ip-go give to our client. */
const ASSIGNED = ['10.98.0.2/32', 'fd00:98::2/128'];
const PROXY_TOKEN = 'token-of-the-foreign-proxy';
const HANDSHAKES_OF_STRANGERS = 2 * RETRY_FROM_HANDSHAKES;
const clientMain = fileURLToPath(new URL('../../data-plane/client/main.ts', import.meta.url));

test('connect-ip-go and masque-vpn carry packets for each other', { skip }, async (t) => {
  const directory = temporaryDirectory(t);
  const newest = new ConnectIpGo('v0.7.0', directory);
  const first = new ConnectIpGo('v0.1.0', directory);
  for (const program of [newest, first]) {
    const reason = await program.build();
    if (reason !== false) return t.skip(reason);
  }
  const cluster = await startCluster({
    directory: join(directory, 'cluster'),
    nodes: ['node-a'],
    clients: ['go', 'ours', 'retry', 'last'].flatMap((kind) => [`${kind}-newest`, `${kind}-first`]),
    connect: [],
  });
  t.after(() => cluster.stop());
  const inner = await serveInnerHttp3(t, cluster, newest, directory);

  for (const program of [newest, first]) {
    const kind = program === newest ? 'newest' : 'first';
    await t.test(`a client of connect-ip-go ${program.version} at our node`, (t) =>
      foreignClient(t, { cluster, program, directory, inner, clientId: `go-${kind}` }),
    );
    await t.test(`our client at a proxy of connect-ip-go ${program.version}`, (t) =>
      foreignProxy(t, { cluster, program, directory, inner, clientId: `ours-${kind}` }),
    );
  }
  await t.test('clients of both versions get in by a Retry while a hundred handshakes are in flight', async (t) => {
    const node = cluster.node('node-a');
    const retries = async () => sumOf(await scrape(node.metricsUrl), 'masque_vpn_node_quic_retries_sent_total');
    assert.equal(await retries(), 0);
    floodWithHandshakes(new URL(node.url).host, cluster.plan.rootAddress);
    const clients = await Promise.all([
      startForeignClient(t, { cluster, program: newest, directory, inner, clientId: 'retry-newest' }),
      startForeignClient(t, { cluster, program: first, directory, inner, clientId: 'retry-first' }),
    ]);
    await Promise.all(clients.map((client) => client.until('open')));
    await waitFor(async () => (await retries()) > HANDSHAKES_OF_STRANGERS - RETRY_FROM_HANDSHAKES, {
      timeoutMs: TIMEOUT_MS,
      what: 'Retry packets for strangers and clients',
    });
    for (const client of clients) await client.process.stop();
  });
  await t.test('clients of both versions notice that our node drains', async (t) => {
    const clients = await Promise.all([
      startForeignClient(t, { cluster, program: newest, directory, inner, clientId: 'last-newest' }),
      startForeignClient(t, { cluster, program: first, directory, inner, clientId: 'last-first' }),
    ]);
    await Promise.all(clients.map((client) => client.until('open')));
    await Promise.all([cluster.node('node-a').service.stop(), ...clients.map((client) => client.process.ended())]);
    for (const client of clients) assert.equal(client.events().at(-1)?.event, 'ended');
    assert.deepEqual(await untilClosed(cluster, 'last-newest'), ['drained']);
    assert.deepEqual(await untilClosed(cluster, 'last-first'), ['drained']);
  });
});

/** First packets that nobody goes on from. */
function floodWithHandshakes(server: string, from: string): void {
  const socket = UdpSocket.bind(`${from}:0`);
  const peer = socket.peers.fromText(server);
  for (let i = 0; i < HANDSHAKES_OF_STRANGERS; i++) {
    const bytes = craftInitial(Buffer.of(0x01), randomBytes(20), randomBytes(20));
    socket.queue(bytes, 0, bytes.length, peer);
    socket.flush();
  }
  socket.close();
}

interface Setting {
  readonly cluster: Cluster;
  readonly program: ConnectIpGo;
  readonly directory: string;
  readonly inner: InnerHttp3;
  readonly clientId: string;
}

/** It stays until the test ends. Each start needs a log file of its own: what it said is in there. */
async function startForeignClient(
  t: TestContext,
  { cluster, program, directory, clientId }: Setting,
  { token = cluster.client(clientId).token, name = 'tunnel' } = {},
): Promise<InteropProcess> {
  const node = cluster.node('node-a');
  const client = await program.start({
    namespace: cluster.client(clientId).place.namespace,
    command: 'client',
    flags: {
      url: `https://${node.serverName}:${new URL(node.url).port}${PATH}`,
      'connect-to': new URL(node.url).host,
      ca: join(cluster.directory, 'pki', 'ca.pem'),
      tun: FOREIGN_TUN,
    },
    token,
    logFile: join(directory, `${clientId}-${name}.log`),
  });
  t.after(() => client.process.stop());
  return client;
}

async function foreignClient(t: TestContext, setting: Setting): Promise<void> {
  const { cluster, program, clientId } = setting;
  const { place } = cluster.client(clientId);

  await t.test('is refused with 401 when its token is wrong', async (t) => {
    const refused = await startForeignClient(t, setting, { token: 'not-a-token', name: 'refused' });
    await refused.process.ended();
    assert.deepEqual(refused.events(), [{ event: 'refused', status: 401 }]);
  });

  const client = await startForeignClient(t, setting);
  const { addresses, routes, requested } = await client.until('open');
  assert.deepEqual(
    addresses?.map((address) => address.replace(/^.*\//, '/')),
    ['/32', '/128'],
  );
  const { prefix, prefix6 } = cluster.node('node-a').place.behind;
  assert.deepEqual(
    routes,
    [prefix, prefix6].map((text) => formatPrefix(parsePrefix(text))),
  );
  if (program.version !== 'v0.1.0') {
    await t.test('gets its addresses also when it asks for some', () => assert.deepEqual(requested, addresses));
  }

  await carriesTraffic(t, setting, place.namespace);

  await t.test('ends its tunnel when it stops, which is recorded with the traffic', async () => {
    const { code } = await client.process.stop();
    assert.equal(code, 0, client.process.lastLogLines());
    assert.deepEqual(await untilClosed(cluster, clientId), ['client']);
    const [row] = await cluster.sql<{ packets_in: string; packets_out: string }>(
      'SELECT packets_in, packets_out FROM connections WHERE client_id = $1',
      [clientId],
    );
    assert.ok(Number(row?.packets_in) > 2 * PINGS && Number(row?.packets_out) > 2 * PINGS, JSON.stringify(row));
  });

  await t.test('comes back with the same addresses, and loses its tunnel when it is revoked', async (t) => {
    const again = await startForeignClient(t, setting, { name: 'revoked' });
    assert.deepEqual((await again.until('open')).addresses, addresses);
    await cluster.api('DELETE', `/v1/clients/${clientId}`);
    await again.process.ended();
    assert.equal(again.events().at(-1)?.event, 'ended');
    assert.deepEqual(await untilClosed(cluster, clientId), ['client', 'revoked']);
  });
}

/** Why the client's tunnels ended, the oldest first, when all that Postgres knows have ended. */
async function untilClosed(cluster: Cluster, clientId: string): Promise<string[]> {
  await cluster.untilProjected(TIMEOUT_MS);
  const rows = await waitFor(
    async () => {
      const all = await cluster.sql<{ state: string; reason: string }>(
        'SELECT state, reason FROM connections WHERE client_id = $1 ORDER BY established_at',
        [clientId],
      );
      return all.length > 0 && all.every(({ state }) => state === 'closed') && all;
    },
    { timeoutMs: TIMEOUT_MS, what: `the end of the tunnels of ${clientId} in Postgres` },
  );
  return rows.map(({ reason }) => reason);
}

async function foreignProxy(t: TestContext, setting: Setting): Promise<void> {
  const { cluster, program, directory, clientId, inner } = setting;
  const node = cluster.node('node-a');
  const { place } = cluster.client(clientId);
  const listen = `${node.place.address}:4434`;
  const url = `https://${inner.serverName}:4434${PATH}`;
  const startProxy = async (t: TestContext, name: string): Promise<InteropProcess> => {
    const proxy = await program.start({
      // It needs forwarding and the network behind, which the node's namespace has; the node does not know of it.
      namespace: node.place.namespace,
      command: 'proxy',
      flags: {
        listen,
        url,
        cert: inner.certificateFile,
        key: inner.keyFile,
        tun: FOREIGN_TUN,
        assign: ASSIGNED.join(','),
        advertise: [node.place.behind.prefix, node.place.behind.prefix6].join(','),
      },
      token: PROXY_TOKEN,
      logFile: join(directory, `${clientId}-${name}.log`),
    });
    t.after(() => proxy.process.stop());
    await proxy.until('listening');
    return proxy;
  };
  const proxy = await startProxy(t, 'proxy');

  const statusFile = join(directory, `${clientId}.json`);
  const [command, args] = inNamespace(place.namespace, process.execPath, [
    clientMain,
    ...['--url', url, '--connect-to', listen, '--ca', inner.ca, '--tun', 'masque0', '--status-file', statusFile],
  ]);
  const client = await startProcess({
    name: clientId,
    command,
    args,
    env: { MASQUE_VPN_TOKEN: PROXY_TOKEN },
    logFile: join(directory, `${clientId}.log`),
  });
  t.after(() => client.stop());
  await client.untilReady(() => readClientStatus(statusFile)?.state === 'connected', 'tunnel', TIMEOUT_MS);
  assert.deepEqual(readClientStatus(statusFile)?.addresses, ASSIGNED);

  await carriesTraffic(t, setting, place.namespace);

  assert.equal(
    proxy.events().filter(({ event }) => event === 'open').length,
    1,
    'the tunnel was lost under the traffic',
  );

  await t.test(
    'notices that the proxy stops, opens a tunnel to the next one, and ends it when it stops itself',
    async (t) => {
      await proxy.process.stop();
      await waitFor(() => readClientStatus(statusFile)?.state === 'connecting', {
        timeoutMs: TIMEOUT_MS,
        what: 'the client to notice',
      });
      const next = await startProxy(t, 'next-proxy');
      await next.until('open');
      const { code } = await client.stop();
      assert.equal(code, 0, client.lastLogLines());
      await next.until('closed');
      assert.equal(readClientStatus(statusFile)?.connects, 2);
    },
  );
}

/** Pings, TCP and HTTP/3 from a client's namespace to the server behind the node. */
async function carriesTraffic(t: TestContext, { cluster, program, inner }: Setting, namespace: string): Promise<void> {
  const { behind } = cluster.node('node-a').place;
  const families = [
    { name: 'IPv4', address: behind.address, host: behind.address },
    { name: 'IPv6', address: behind.address6, host: `[${behind.address6}]` },
  ];
  for (const { name, address, host } of families) {
    await t.test(`${name}: ${PINGS} pings without loss`, async () => {
      const [command, args] = inNamespace(namespace, 'ping', [
        ...['-n', '-q', '-c', String(PINGS), '-i', '0.02', '-W', '2', address],
      ]);
      const { stdout } = await run(command, args);
      assert.match(stdout, new RegExp(` ${PINGS} received`));
    });
    await t.test(`${name}: a GET by TCP`, async () => {
      const body = await program.fetch(namespace, { url: `http://${host}:${HTTP_PORT}/100/small` });
      assert.deepEqual(body, pseudoRandomBytes('small', 100));
    });
    await t.test(`${name}: a MiB by TCP, every byte`, async () => {
      const body = await program.fetch(namespace, { url: `http://${host}:${HTTP_PORT}/${MEBIBYTE}/large` });
      assert.ok(body.equals(pseudoRandomBytes('large', MEBIBYTE)), `${body.length} bytes`);
    });
    await t.test(`${name}: a MiB by HTTP/3 in the tunnel, in packets of 1200 bytes, every byte`, async () => {
      const body = await program.fetch(namespace, { url: `https://${host}:${INNER_HTTP3_PORT}/file`, ca: inner.ca });
      assert.ok(body.equals(inner.file), `${body.length} bytes`);
    });
  }
}

interface InnerHttp3 {
  readonly ca: string;
  /** For the proxies' name and for the addresses behind the node. */
  readonly serverName: string;
  readonly certificateFile: string;
  readonly keyFile: string;
  readonly file: Buffer;
}

async function serveInnerHttp3(
  t: TestContext,
  cluster: Cluster,
  program: ConnectIpGo,
  directory: string,
): Promise<InnerHttp3> {
  const { behind } = cluster.node('node-a').place;
  const served = join(directory, 'served');
  mkdirSync(served);
  const file = randomBytes(MEBIBYTE);
  writeFileSync(join(served, 'file'), file);
  const serverName = 'proxy.masque-vpn.test';
  const authority = await createAuthority(join(directory, 'foreign-pki'));
  const names = [serverName, behind.address, behind.address6];
  const { certificateFile, keyFile } = await issueServerCertificate(
    authority,
    join(directory, 'tls'),
    'foreign',
    names,
  );
  const server = await program.start({
    namespace: behind.namespace,
    command: 'serve-http3',
    flags: { listen: `[::]:${INNER_HTTP3_PORT}`, cert: certificateFile, key: keyFile, directory: served },
    logFile: join(directory, 'serve-http3.log'),
  });
  t.after(() => server.process.stop());
  await server.until('listening');
  return { ca: authority.certificateFile, serverName, certificateFile, keyFile, file };
}
