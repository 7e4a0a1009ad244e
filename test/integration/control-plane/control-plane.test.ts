import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { createInbox } from 'nats';
import { hashClientToken } from '../../../control-plane/clients/client-token.ts';
import { CLUSTER_FAMILIES, EXPECTED_LINT } from '../../../control-plane/metrics/contract.ts';
import { METRICS_CONTENT_TYPE } from '../../../control-plane/metrics/metrics-service.ts';
import { LOCK_LOG } from '../../../control-plane/storage/projection-lock.ts';
import {
  type BlockRequest,
  blockReplyMessage,
  blockRequestMessage,
  blockRequestSubject,
  type Credential,
  credentialMessage,
} from '../../../shared/nats/messages.ts';
import { nodeInbox } from '../../../shared/nats/node-permissions.ts';
import { CREDENTIALS_BUCKET } from '../../../shared/nats/streams.ts';
import { needsBinary } from '../../support/requirements.ts';
import { waitFor } from '../../support/wait-for.ts';
import { parseExposition } from '../../unit/metrics/parse-exposition.ts';
import {
  ADMIN_TOKEN,
  type ControlPlane,
  createControlPlane,
  SimulatedNode,
  startServers,
  type TestServers,
} from './control-plane-setup.ts';

const skip = needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 20_000;
const ADA_TOKEN = 'test-token-of-ada-0123456789';

let servers: TestServers;
let controlPlane: ControlPlane;

before(async () => {
  if (skip) return;
  servers = await startServers();
  controlPlane = await createControlPlane(servers, { ADMIN_TOKENS: `ada@example.com:${ADA_TOKEN}` });
  await controlPlane.service.start();
});

after(async () => {
  if (skip) return;
  await controlPlane?.service.stop();
  await servers?.stop();
});

async function credentialOf(clientId: string): Promise<Credential | undefined> {
  const kv = await servers.connection.jetstream().views.kv(CREDENTIALS_BUCKET, { bindOnly: true });
  const entry = await kv.get(clientId);
  return entry?.operation === 'PUT' ? credentialMessage.decode(entry.value) : undefined;
}

async function sampleValue(name: string, labels: Record<string, string> = {}): Promise<number | undefined> {
  const family = name.replace(/_(bucket|sum|count)$/, '');
  const parsed = parseExposition(await controlPlane.metrics());
  const samples = (parsed.get(name) ?? parsed.get(family))?.samples ?? [];
  return samples.find(
    (sample) =>
      sample.name === name && Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
  )?.value;
}

async function nodeState(id: string): Promise<unknown> {
  const { body } = await controlPlane.call('GET', '/v1/nodes');
  return (body.nodes as Array<{ id: string; state: string }>).find((node) => node.id === id)?.state;
}

test('an enrolled client is in the nodes’ bucket at once, and revoked there within 2 s', { skip }, async () => {
  const enrolled = await controlPlane.call('POST', '/v1/clients', { id: 'alice', name: 'Alice' });
  assert.equal(enrolled.status, 201);
  const token = String(enrolled.body.token);
  assert.match(token, /^mvpn_/);
  const active = await waitFor(() => credentialOf('alice'), { timeoutMs: 2_000, what: 'the credential' });
  assert.equal(active.state, 'active');
  assert.equal(active.tokenSha256, hashClientToken(token));

  const renamed = await controlPlane.call('PATCH', '/v1/clients/alice', { name: 'Alice B' });
  assert.equal(renamed.body.name, 'Alice B');
  const revoked = await controlPlane.call('DELETE', '/v1/clients/alice');
  assert.equal(revoked.body.state, 'revoked');
  const after = await waitFor(async () => (await credentialOf('alice'))?.state === 'revoked' && credentialOf('alice'), {
    timeoutMs: 2_000,
    what: 'the revocation',
  });
  assert.ok(after.version > active.version);
  assert.equal((await controlPlane.call('DELETE', '/v1/clients/alice')).status, 200, 'revoking twice is fine');

  const { rows } = await servers.sql.query<{ type: string; data: object }>(
    `SELECT type, data FROM events WHERE data->>'clientId' = 'alice' ORDER BY position`,
  );
  assert.deepEqual(
    rows.map(({ type }) => type),
    ['client.enrolled', 'client.updated', 'client.revoked'],
  );
  const everything = JSON.stringify(rows) + readFileSync(controlPlane.service.logFile, 'utf8');
  assert.ok(!everything.includes(token) && !everything.includes(active.tokenSha256), 'no secret in events or log');
});

test("the event of a change has the name of its token, the administrator's or another's", { skip }, async () => {
  const path = '/v1/clients/audited';
  await controlPlane.call('POST', '/v1/clients', { id: 'audited' });
  const renamed = await controlPlane.call('PATCH', path, { name: 'Renamed' }, ADA_TOKEN);
  const revoked = await controlPlane.call('DELETE', path, undefined, ADA_TOKEN);
  assert.deepEqual([renamed.status, revoked.status], [200, 200]);
  const { rows } = await servers.sql.query(
    `SELECT type, data->>'actor' AS actor FROM events WHERE data->>'clientId' = 'audited' ORDER BY position`,
  );
  assert.deepEqual(rows, [
    { type: 'client.enrolled', actor: 'admin' },
    { type: 'client.updated', actor: 'ada@example.com' },
    { type: 'client.revoked', actor: 'ada@example.com' },
  ]);
  assert.ok(!readFileSync(controlPlane.service.logFile, 'utf8').includes(ADA_TOKEN));
});

test('a client without id gets one, and can be read and listed without any secret', { skip }, async () => {
  const { body } = await controlPlane.call('POST', '/v1/clients', {});
  const id = String(body.id);
  assert.match(id, /^client-[0-9a-f]{12}$/);
  const one = await controlPlane.call('GET', `/v1/clients/${id}`);
  assert.equal(one.body.state, 'active');
  const list = await controlPlane.call('GET', '/v1/clients');
  assert.ok((list.body.clients as Array<{ id: string }>).some((client) => client.id === id));
  assert.ok(!JSON.stringify([one, list]).includes('token'));
});

test('clients are listed by id, a page at a time', { skip }, async () => {
  const PAGE = 100;
  const ids = Array.from({ length: PAGE + 1 }, (_, i) => `paged-${String(i).padStart(3, '0')}`);
  for (const id of ids) assert.equal((await controlPlane.call('POST', '/v1/clients', { id })).status, 201);
  const list = async (query: string) => {
    const { clients, next } = (await controlPlane.call('GET', `/v1/clients?${query}`)).body;
    return { ids: (clients as { id: string }[]).map(({ id }) => id), next };
  };
  const all = await list('limit=9999');
  assert.equal(all.next, null);
  assert.deepEqual(
    all.ids.filter((id) => id.startsWith('paged-')),
    ids,
  );
  const first = await list('');
  assert.deepEqual(first, { ids: all.ids.slice(0, PAGE), next: all.ids[PAGE - 1] });
  assert.deepEqual(await list(`after=${first.next}`), { ids: all.ids.slice(PAGE), next: null });
  assert.deepEqual(await list('limit=2&after=paged-007'), { ids: ['paged-008', 'paged-009'], next: 'paged-009' });
  assert.deepEqual(await list(`limit=1&after=${all.ids.at(-2)}`), { ids: [all.ids.at(-1)], next: null });
  assert.deepEqual(await list('after=zzz'), { ids: [], next: null });
});

test('connections are listed newest first, a page at a time', { skip }, async () => {
  const node = new SimulatedNode('node-pages', servers.connection);
  node.startPresence();
  try {
    const established = [await node.startWithConnection('pages')];
    while (established.length < 5) established.push(await node.establish('pages'));
    const list = async (query: string) => {
      const { connections, next } = (await controlPlane.call('GET', `/v1/connections?clientId=pages&${query}`)).body;
      return { ids: (connections as { id: string }[]).map(({ id }) => id), next };
    };
    await waitFor(async () => (await list('')).ids.length === established.length, {
      timeoutMs: TIMEOUT_MS,
      what: 'all connections in the list',
    });
    const { ids: all, next } = await list('');
    assert.equal(next, null);
    assert.deepEqual([...all].sort(), [...established].sort());
    const first = await list('limit=2');
    assert.deepEqual(first, { ids: all.slice(0, 2), next: all[1] });
    assert.deepEqual(await list(`limit=2&after=${first.next}`), { ids: all.slice(2, 4), next: all[3] });
    assert.deepEqual(await list(`limit=2&after=${all[3]}`), { ids: all.slice(4), next: null });
    assert.deepEqual(await list(`after=${all[4]}`), { ids: [], next: null });
    // What the page before ended with may be closed by now.
    assert.deepEqual(await list(`state=closed&after=${all[0]}`), { ids: [], next: null });
  } finally {
    node.stopPresence();
  }
});

test('everything under /v1 needs the admin token, and the log never shows what was sent', { skip }, async () => {
  for (const authorization of [undefined, 'Bearer wrong-token-wrong-token', `Basic ${ADMIN_TOKEN}`, 'Bearer']) {
    for (const path of ['/v1/clients', '/%761/clients', '/v1/nodes', '/v1/nothing']) {
      const response = await fetch(`${controlPlane.url}${path}`, authorization ? { headers: { authorization } } : {});
      assert.equal(response.status, 401, `${authorization} ${path}`);
      assert.equal(response.headers.get('content-type'), 'application/problem+json; charset=utf-8');
    }
  }
  const log = readFileSync(controlPlane.service.logFile, 'utf8');
  assert.ok(!log.includes('wrong-token') && !log.includes(ADMIN_TOKEN));
});

test('a node gets a block over NATS, renews it, and the pool shows it', { skip }, async () => {
  const askRaw = async (request: Uint8Array, inboxOf = 'node-b') => {
    const reply = await servers.connection.request(blockRequestSubject('node-b'), request, {
      timeout: 1_000,
      noMux: true,
      reply: createInbox(nodeInbox(inboxOf)),
    });
    return blockReplyMessage.decode(reply.data);
  };
  const ask = (request: BlockRequest) => askRaw(blockRequestMessage.encode(request));
  const requestId = randomBytes(16).toString('hex');
  const first = await ask({ op: 'acquire', node: 'node-b', family: 4, requestId });
  assert.ok(first.ok);
  assert.deepEqual(first.leases, [{ block: '10.99.0.0/26', pool: '10.99.0.0/16', leaseSeconds: 3600 }]);
  assert.deepEqual(await ask({ op: 'acquire', node: 'node-b', family: 4, requestId }), first);
  const renewed = await ask({ op: 'renew', node: 'node-b', blocks: ['10.99.0.0/26', '10.99.0.64/26'] });
  assert.ok(renewed.ok && renewed.leases.length === 1 && renewed.lost.length === 1);
  const foreign = blockRequestMessage.encode({ op: 'return', node: 'node-a', blocks: ['10.99.0.0/26'] });
  for (const bad of [Buffer.from('nonsense'), foreign]) {
    const refused = await askRaw(bad);
    assert.ok(!refused.ok && refused.code === 'invalid');
  }
  const own = blockRequestMessage.encode({ op: 'renew', node: 'node-b', blocks: [] });
  await assert.rejects(askRaw(own, 'node-a'), { code: 'TIMEOUT' });
  const { body } = await controlPlane.call('GET', '/v1/pools');
  const [pool] = body.pools as Array<Record<string, unknown>>;
  // A /16 in /26 blocks: 65,536 addresses less network, broadcast, and one a block for its node.
  const counts = { total: 64_510, granted: 62, used: 0, available: 64_510, exhaustionSeconds: null };
  assert.deepEqual(pool?.v4, { prefixes: ['10.99.0.0/16'], blockPrefix: 26, ...counts });
});

test('what a node reports is in the API and in the metrics, and a restart changes no counter', { skip }, async () => {
  const node = new SimulatedNode('node-m', servers.connection);
  node.startPresence();
  try {
    const connectionId = await node.startWithConnection('mary');
    await node.sample(connectionId, 'mary', { bytesIn: 1_000, bytesOut: 500_000 });
    await waitFor(async () => (await sampleValue('masque_vpn_bytes_sent_total', { client_id: 'mary' })) === 500_000, {
      timeoutMs: TIMEOUT_MS,
      what: 'the traffic in the metrics',
    });
    assert.equal(await sampleValue('masque_vpn_rtt_ms', { client_id: 'mary' }), 7.5);
    assert.equal(await sampleValue('masque_vpn_throughput_mbps', { client_id: 'mary', direction: 'out' }), 0.8);
    assert.equal(await sampleValue('masque_vpn_latency_ms_count', { client_id: 'mary', quantile: '0.95' }), 1);
    const { body } = await controlPlane.call('GET', '/v1/connections?state=open&clientId=mary&limit=5');
    const [connection] = body.connections as Array<Record<string, unknown>>;
    assert.equal(connection?.id, connectionId);
    assert.equal(connection?.nodeId, 'node-m');
    assert.equal(connection?.bytesOut, 500_000);
    assert.equal(connection?.rttMs, 7.5);
    assert.equal(connection?.remoteAddress, '192.0.2.7');

    const counters = async () =>
      (await controlPlane.metrics())
        .split('\n')
        .filter((line) => /^masque_vpn_(?!control).*_(total|count|sum)/.test(line));
    const before = await counters();
    const stopped = await controlPlane.service.stop();
    assert.deepEqual(stopped, { code: 0, signal: null }, 'SIGTERM ends it in order');
    await controlPlane.service.start();
    assert.deepEqual(await counters(), before);
  } finally {
    node.stopPresence();
  }
});

test("a node's clock that is wrong shows in a metric, one that is right shows as such", { skip }, async () => {
  const started = { type: 'node.started', data: { softwareVersion: '0.0.0', listen: '0.0.0.0:4433', tunnelMtu: 1400 } };
  const SKEWS = { 'node-ahead': 90, 'node-behind': -45, 'node-right': 0 };
  for (const [id, seconds] of Object.entries(SKEWS)) {
    const at = new Date(Date.now() + seconds * 1_000).toISOString();
    await new SimulatedNode(id, servers.connection).publish({ ...started, at } as Parameters<
      SimulatedNode['publish']
    >[0]);
  }
  for (const [node, seconds] of Object.entries(SKEWS)) {
    const isShown = async () => {
      const shown = await sampleValue('masque_vpn_control_node_clock_skew_seconds', { node });
      return shown !== undefined && Math.abs(shown - seconds) < 5;
    };
    await waitFor(isShown, { timeoutMs: TIMEOUT_MS, what: `the skew of ${node}` });
  }
});

test('a process is not ready by what its predecessor confirmed, but once it leads itself', { skip }, async () => {
  await controlPlane.service.stop();
  const holder = await servers.sql.connect();
  try {
    // Whoever takes over waits for the lock of the log.
    await holder.query("UPDATE leadership SET confirmed_at = clock_timestamp() + interval '1 minute'");
    await holder.query('BEGIN');
    await holder.query(LOCK_LOG);
    await controlPlane.service.launch();
    const isTakingOver = async () => {
      const { rowCount } = await holder.query(
        "SELECT FROM pg_locks WHERE relation = 'log_lock'::regclass AND NOT granted",
      );
      return rowCount === 1;
    };
    await waitFor(isTakingOver, { timeoutMs: TIMEOUT_MS, what: 'the takeover' });
    assert.equal((await fetch(`${controlPlane.url}/readyz`)).status, 503);
  } finally {
    await holder.query('ROLLBACK');
    holder.release();
    await controlPlane.service.untilReady();
  }
  assert.notEqual(await sampleValue('masque_vpn_active_connections_total'), undefined);
});

test('a silent node is lost with its connections, and is up again once it is heard', { skip }, async () => {
  const node = new SimulatedNode('node-p', servers.connection);
  node.startPresence();
  const connectionId = await node.startWithConnection('paula');
  const isActive = async () => (await controlPlane.call('GET', '/v1/connections?clientId=paula')).body;
  const connectionState = async () => (await isActive()).connections as Array<{ state: string }>;
  await waitFor(async () => (await nodeState('node-p')) === 'up', { timeoutMs: TIMEOUT_MS, what: 'node-p up' });
  const closedBefore = await sampleValue('masque_vpn_connections_total', { status: 'closed' });

  node.stopPresence();
  await waitFor(async () => (await nodeState('node-p')) === 'lost', { timeoutMs: 15_000, what: 'node-p lost' });
  assert.equal((await connectionState())[0]?.state, 'presumed');
  assert.equal(await sampleValue('masque_vpn_connections_total', { status: 'closed' }), closedBefore);

  node.startPresence();
  await waitFor(async () => (await nodeState('node-p')) === 'up', {
    timeoutMs: 5_000,
    what: 'node-p back by presence',
  });
  await node.sample(connectionId, 'paula', { bytesIn: 1, bytesOut: 1 });
  await waitFor(async () => (await connectionState())[0]?.state === 'open', { timeoutMs: 5_000, what: 'reopening' });
  node.stopPresence();
  await waitFor(async () => (await nodeState('node-p')) === 'lost', { timeoutMs: 15_000, what: 'node-p lost again' });
});

test('the live scrape has the 15 families beside its own, and promtool accepts it', { skip }, async () => {
  const response = await fetch(`${controlPlane.url}/metrics`);
  assert.equal(response.headers.get('content-type'), METRICS_CONTENT_TYPE);
  const text = await response.text();
  const parsed = parseExposition(text);
  const cluster = [...parsed.keys()].filter((name) => !name.startsWith('masque_vpn_control_'));
  assert.deepEqual(
    cluster.sort(),
    Object.values(CLUSTER_FAMILIES)
      .map(({ name }) => name)
      .sort(),
  );
  for (const { name, type } of Object.values(CLUSTER_FAMILIES)) assert.equal(parsed.get(name)?.type, type);
  assert.ok((parsed.get('masque_vpn_control_leader')?.samples[0]?.value ?? 0) === 1);
  if (needsBinary('promtool', 'prometheus')) return;
  const { stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
  const lines = `${stdout}${stderr}`.split('\n').filter((line) => line !== '');
  const expected: readonly string[] = EXPECTED_LINT;
  assert.deepEqual(
    lines.filter((line) => !expected.includes(line)),
    [],
  );
});

test('its own events reach the stream, and the projection has caught up with them', { skip }, async () => {
  const { body } = await controlPlane.call('GET', '/v1/projection');
  assert.equal(body.leader, true);
  for (const field of ['parked', 'deadLetters', 'gaps']) assert.equal(body[field], 0, field);
  await waitFor(
    async () => {
      const status = (await controlPlane.call('GET', '/v1/projection')).body;
      return status.outbox === 0 && status.lagEvents === 0;
    },
    { timeoutMs: TIMEOUT_MS, what: 'an empty outbox and no lag' },
  );
});

test('while NATS is frozen, with its connections, no node is lost either', { skip }, async () => {
  const node = new SimulatedNode('node-f', servers.connection);
  node.startPresence();
  await node.startWithConnection('frida');
  await waitFor(async () => (await nodeState('node-f')) === 'up', { timeoutMs: TIMEOUT_MS, what: 'node-f up' });
  try {
    process.kill(servers.nats.pid, 'SIGSTOP');
    // Longer than the silence that would lose a node, shorter than what the connection takes to notice.
    const until = performance.now() + 13_000;
    await waitFor(() => performance.now() > until, { timeoutMs: 15_000, what: '13 s of a frozen NATS' });
  } finally {
    process.kill(servers.nats.pid, 'SIGCONT');
  }
  const heardBefore = new Date();
  await waitFor(
    async () => {
      const seen = await servers.sql.query("SELECT last_seen_at FROM node_presence WHERE node = 'node-f'");
      return seen.rows[0]?.last_seen_at > heardBefore;
    },
    { timeoutMs: TIMEOUT_MS, what: 'presence of node-f' },
  );
  node.stopPresence();
  const { rows } = await servers.sql.query(
    "SELECT data FROM events WHERE type = 'node.lost' AND data->>'node' = 'node-f'",
  );
  assert.deepEqual(rows, []);
});

test('without NATS no node is lost, and what was revoked meanwhile is in the bucket afterwards', { skip }, async () => {
  const node = new SimulatedNode('node-n', servers.connection);
  node.startPresence();
  await node.startWithConnection('nora');
  await controlPlane.call('POST', '/v1/clients', { id: 'nora' });
  await waitFor(async () => (await nodeState('node-n')) === 'up' && (await credentialOf('nora')), {
    timeoutMs: TIMEOUT_MS,
    what: 'node-n and its client',
  });
  await servers.nats.stop();
  assert.equal((await controlPlane.call('DELETE', '/v1/clients/nora')).status, 200);
  // Longer than the silence that would lose a node.
  const until = performance.now() + 12_000;
  await waitFor(() => performance.now() > until, { timeoutMs: 15_000, what: '12 s without NATS' });
  assert.equal(await nodeState('node-n'), 'up');
  servers.nats = await servers.nats.restart();
  await waitFor(async () => (await credentialOf('nora'))?.state === 'revoked', {
    timeoutMs: TIMEOUT_MS,
    what: 'the revocation in the bucket',
  });
  assert.equal(await nodeState('node-n'), 'up');
  node.stopPresence();
});
