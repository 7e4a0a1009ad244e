import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { createInbox } from 'nats';
import {
  type BlockNotice,
  type BlockReply,
  type BlockRequest,
  blockNoticeMessage,
  blockNoticeSubject,
  blockReplyMessage,
  blockRequestMessage,
  blockRequestSubject,
  credentialMessage,
} from '../../../shared/nats/messages.ts';
import { nodeInbox } from '../../../shared/nats/node-permissions.ts';
import { CREDENTIALS_BUCKET } from '../../../shared/nats/streams.ts';
import { needsBinary } from '../../support/requirements.ts';
import { waitFor } from '../../support/wait-for.ts';
import { parseExposition } from '../../unit/metrics/parse-exposition.ts';
import { type ControlPlane, createControlPlane, startServers, type TestServers } from './control-plane-setup.ts';

const skip = needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 20_000;

let servers: TestServers;
let controlPlane: ControlPlane;

before(async () => {
  if (skip) return;
  servers = await startServers();
  controlPlane = await createControlPlane(servers, { POOLS: '10.99.0.0/16,fd00:99::/64' });
  await controlPlane.service.start();
});

after(async () => {
  if (skip) return;
  await controlPlane?.service.stop();
  await servers?.stop();
});

async function ask(request: BlockRequest): Promise<BlockReply> {
  const { node } = request;
  const reply = await servers.connection.request(blockRequestSubject(node), blockRequestMessage.encode(request), {
    timeout: 5_000,
    noMux: true,
    reply: createInbox(nodeInbox(node)),
  });
  return blockReplyMessage.decode(reply.data);
}
const acquire = (node: string, pool: string, family: 4 | 6 = 4): Promise<BlockReply> =>
  ask({ op: 'acquire', node, family, requestId: randomBytes(16).toString('hex'), pool });
const blockOf = (reply: BlockReply) => (reply.ok ? reply.leases[0]?.block : reply.message);

async function stateOf(pool: string): Promise<unknown> {
  return (await controlPlane.call('GET', `/v1/pools/${pool}`)).body.state;
}

test('a pool is added at run time, nodes get blocks of it, and it is in the API, the metrics and SQL', {
  skip,
}, async () => {
  const body = { name: 'office', v4: '10.98.0.0/24', v6: 'fd00:98::/64', blockPrefixV4: 27 };
  const added = await controlPlane.call('POST', '/v1/pools', body);
  assert.equal(added.status, 201);
  assert.equal(blockOf(await acquire('node-a', 'office')), '10.98.0.0/27');
  assert.equal(blockOf(await acquire('node-a', 'office', 6)), 'fd00:98::/120');
  assert.equal(blockOf(await acquire('node-a', 'nowhere')), 'pool "nowhere" does not exist');
  const shown = (await controlPlane.call('GET', '/v1/pools/office')).body;
  // 256 addresses less network, broadcast, and one a block for its node.
  const counts = { total: 246, granted: 30, used: 0, available: 246, exhaustionSeconds: null };
  assert.deepEqual(shown.v4, { prefixes: ['10.98.0.0/24'], blockPrefix: 27, ...counts });
  assert.deepEqual([shown.name, shown.state], ['office', 'active']);
  const { pools } = (await controlPlane.call('GET', '/v1/pools')).body as { pools: { name: string }[] };
  assert.deepEqual(
    pools.map(({ name }) => name),
    ['default', 'office'],
  );
  const samples = parseExposition(await controlPlane.metrics()).get('masque_vpn_control_pool_addresses')?.samples;
  const granted = samples?.find(
    ({ labels }) => labels.pool === 'office' && labels.family === '4' && labels.state === 'granted',
  );
  assert.equal(granted?.value, 30);
  const { rows } = await servers.sql.query(`SELECT data->>'actor' AS actor FROM events WHERE type = 'pool.added'`);
  assert.deepEqual(rows, [{ actor: 'configuration' }, { actor: 'admin' }]);
});

test('a pool that cannot be is refused with the field, the value and what is allowed', { skip }, async () => {
  const cases: Array<[object, number, string | undefined, RegExp]> = [
    [{ name: 'Office', v4: '10.97.0.0/16' }, 400, 'name', /name: got "Office", expected 1 to 63 of a-z, 0-9 and -/],
    [{ v4: '10.97.0.0/16' }, 400, 'name', /name/],
    [{ name: 'lab' }, 400, 'v4', /v4, v6 or both are required/],
    [
      { name: 'lab', v4: '10.97.0.1/16' },
      400,
      'v4',
      /v4: got "10.97.0.1\/16", expected an IPv4 prefix.*; host bits are set$/,
    ],
    [{ name: 'lab', v4: 'fd00::/64' }, 400, 'v4', /got "fd00::\/64", expected an IPv4 prefix of at most \/26/],
    [{ name: 'lab', v6: 7 }, 400, 'v6', /got 7, expected an IPv6 prefix of at most \/120/],
    [{ name: 'lab', v4: '10.97.0.0/28' }, 400, 'v4', /got "10.97.0.0\/28", expected an IPv4 prefix of at most \/26/],
    [{ name: 'lab', v4: '10.97.0.0/16', blockPrefixV4: 31 }, 400, 'blockPrefixV4', /got 31, expected .* 16 to 30/],
    [
      { name: 'lab', v4: '10.97.0.0/16', blockPrefixV4: 12 },
      400,
      'blockPrefixV4',
      /got 12, .* 16 to 30, since v4 is a/,
    ],
    [{ name: 'lab', v4: '10.97.0.0/28', blockPrefixV4: 26 }, 400, 'blockPrefixV4', /got 26, .* from 28 to 30, since/],
    [{ name: 'lab', v4: '10.0.0.0/7', blockPrefixV4: 7 }, 400, 'blockPrefixV4', /got 7, .* from 8 to 30$/],
    [
      { name: 'lab', v4: '10.97.0.0/31', blockPrefixV4: 30 },
      400,
      'v4',
      /v4: got "10.97.0.0\/31", .* at most \/30, e.g./,
    ],
    [
      { name: 'lab', v6: 'fd00:97::/64', blockPrefixV6: 48 },
      400,
      'blockPrefixV6',
      /got 48, .* 64 to 126, since v6 is a/,
    ],
    [{ name: 'lab', v6: 'fd00:97::/64', blockPrefixV6: 'x' }, 400, 'blockPrefixV6', /got "x", .* from 64 to 126/],
    [{ name: 'lab', v4: '127.0.0.0/16' }, 400, 'v4', /got "127.0.0.0\/16", .*; 127.0.0.0\/8 is loopback$/],
    [{ name: 'lab', v6: 'fe80::/64' }, 400, 'v6', /got "fe80::\/64", .*; fe80::\/10 is link-local$/],
    [{ name: 'lab', v4: '10.97.0.0/16', size: 1 }, 400, 'size', /size/],
    [{ name: 'office', v4: '10.97.0.0/16' }, 409, 'name', /pool "office" is there already/],
    [
      { name: 'lab', v4: '10.98.0.128/25' },
      409,
      'v4',
      /"lab" has 10.98.0.128\/25, which overlaps 10.98.0.0\/24 of pool "office"/,
    ],
    [
      { name: 'lab', v4: '10.0.0.0/8' },
      409,
      'v4',
      /"lab" has 10.0.0.0\/8, which overlaps 10.99.0.0\/16 of pool "default"/,
    ],
    [
      { name: 'lab', v4: '10.97.0.0/16', v6: 'fd00:99::/80' },
      409,
      'v6',
      /"lab" has fd00:99::\/80, which overlaps fd00:99::\/64 of pool "default"/,
    ],
  ];
  for (const [body, status, field, detail] of cases) {
    const answer = await controlPlane.call('POST', '/v1/pools', body);
    assert.deepEqual([answer.status, answer.body.field], [status, field], JSON.stringify(body));
    assert.match(String(answer.body.detail), detail);
  }
  assert.equal((await controlPlane.call('GET', '/v1/pools/lab')).status, 404);
  assert.equal((await controlPlane.call('DELETE', '/v1/pools/lab')).status, 404);
  const kept = await controlPlane.call('DELETE', '/v1/pools/default');
  assert.deepEqual([kept.status, kept.body.code], [409, 'POOL_CONFIGURED']);
});

test('each client belongs to one pool, which its credential tells the nodes', { skip }, async () => {
  const enrolled = await controlPlane.call('POST', '/v1/clients', { id: 'olga', pool: 'office' });
  assert.deepEqual([enrolled.status, enrolled.body.pool], [201, 'office']);
  await controlPlane.call('POST', '/v1/clients', { id: 'dora', name: 'Dora' });
  assert.equal((await controlPlane.call('GET', '/v1/clients/dora')).body.pool, 'default');
  const moved = await controlPlane.call('PATCH', '/v1/clients/dora', { pool: 'office' });
  assert.deepEqual([moved.body.name, moved.body.pool], ['Dora', 'office']);
  const renamed = await controlPlane.call('PATCH', '/v1/clients/dora', { name: 'D' });
  assert.deepEqual([renamed.body.name, renamed.body.pool], ['D', 'office']);
  const kv = await servers.connection.jetstream().views.kv(CREDENTIALS_BUCKET, { bindOnly: true });
  for (const id of ['olga', 'dora']) {
    await waitFor(
      async () => {
        const entry = await kv.get(id);
        return entry?.operation === 'PUT' && credentialMessage.decode(entry.value).pool === 'office';
      },
      { timeoutMs: TIMEOUT_MS, what: `the pool in the credential of ${id}` },
    );
  }
  for (const [method, path, id] of [
    ['POST', '/v1/clients', { id: 'mallory' }],
    ['PATCH', '/v1/clients/dora', {}],
  ] as const) {
    const refused = await controlPlane.call(method, path, { ...id, pool: 'ofice' });
    assert.deepEqual([refused.status, refused.body.field, refused.body.code], [400, 'pool', 'POOL_UNKNOWN']);
    assert.match(String(refused.body.detail), /got "ofice", which does not exist; expected one of default, office/);
  }
});

test('a pool that retires gives no more blocks, is asked back of its nodes, and is retired when the last one is returned', {
  skip,
}, async () => {
  const notices: BlockNotice[] = [];
  const subscription = servers.connection.subscribe(blockNoticeSubject('node-a'), {
    callback: (_error, message) => void notices.push(blockNoticeMessage.decode(message.data)),
  });
  const retired = await controlPlane.call('DELETE', '/v1/pools/office');
  assert.deepEqual([retired.status, retired.body.state], [202, 'retiring']);
  assert.equal(blockOf(await acquire('node-b', 'office')), 'pool "office" is retiring');
  const refused = await controlPlane.call('POST', '/v1/clients', { id: 'oscar', pool: 'office' });
  assert.deepEqual([refused.status, refused.body.code], [409, 'POOL_RETIRING']);
  await waitFor(() => notices.length > 0, { timeoutMs: TIMEOUT_MS, what: 'the notice' });
  assert.deepEqual(notices[0]?.draining.toSorted(), ['10.98.0.0/27', 'fd00:98::/120']);
  assert.deepEqual(notices[0]?.closing, []);
  const again = notices.length;
  await controlPlane.call('DELETE', '/v1/pools/office?closeTunnels=true');
  await waitFor(() => notices.slice(again).some(({ closing }) => closing.length === 2), {
    timeoutMs: TIMEOUT_MS,
    what: 'the notice that its tunnels are to be closed',
  });
  subscription.unsubscribe();

  // The tunnels live on meanwhile.
  const renewed = await ask({ op: 'renew', node: 'node-a', blocks: ['10.98.0.0/27'] });
  assert.equal(blockOf(renewed), '10.98.0.0/27');
  assert.equal(await stateOf('office'), 'retiring');
  await ask({ op: 'return', node: 'node-a', blocks: ['10.98.0.0/27', 'fd00:98::/120'] });
  await waitFor(async () => (await stateOf('office')) === 'retired', { timeoutMs: TIMEOUT_MS, what: 'the end' });
  const early = await controlPlane.call('POST', '/v1/pools', { name: 'lab', v4: '10.98.0.0/16' });
  assert.equal(early.status, 409);
  assert.match(String(early.body.detail), /10.98.0.0\/24 of pool "office", which was retired less than a minute ago/);
  // The test does not wait for that minute.
  await servers.sql.query(
    `UPDATE pool_states SET state_since = state_since - interval '1 minute' WHERE name = 'office'`,
  );
  assert.equal((await controlPlane.call('POST', '/v1/pools', { name: 'lab', v4: '10.98.0.0/16' })).status, 201);
  // Nobody ever had a part of it.
  const gone = await controlPlane.call('DELETE', '/v1/pools/lab');
  assert.deepEqual([gone.status, gone.body.state], [200, 'retired']);
});

test('in how long a pool is exhausted is known where its use grows', { skip }, async () => {
  await servers.sql.query(`
    DELETE FROM pool_usage WHERE pool = 'default';
    INSERT INTO pool_usage (at, pool, family, state, total, granted, used, available)
      SELECT now() - minute * interval '1 minute', 'default', 4, 'active', 64510, 61, 6000 - 60 * minute, 58510
      FROM generate_series(1, 20) AS minute`);
  const { v4, v6 } = (await controlPlane.call('GET', '/v1/pools/default')).body as Record<
    string,
    { available: number; exhaustionSeconds: number | null }
  >;
  // One a second.
  assert.ok(v4 !== undefined && Math.abs((v4.exhaustionSeconds ?? 0) - v4.available) < 1);
  assert.equal(v6?.exhaustionSeconds, null);
  const family = parseExposition(await controlPlane.metrics()).get('masque_vpn_control_pool_exhaustion_seconds');
  assert.deepEqual(
    family?.samples.map(({ labels }) => labels),
    [{ pool: 'default', family: '4' }],
  );
});

test('the pool of the configuration grows with it, and a start with one that takes addresses of another pool ends with the reason', {
  skip,
}, async () => {
  await controlPlane.call('POST', '/v1/pools', { name: 'guests', v4: '10.96.0.0/16' });
  await controlPlane.service.stop();
  const grown = await createControlPlane(servers, { POOLS: '10.99.0.0/16,10.95.0.0/16,fd00:99::/64' });
  await grown.service.start();
  await waitFor(
    async () => {
      const { v4 } = (await grown.call('GET', '/v1/pools/default')).body as { v4: { prefixes: string[] } };
      return v4.prefixes.join() === '10.99.0.0/16,10.95.0.0/16';
    },
    { timeoutMs: TIMEOUT_MS, what: 'the second network of the default pool' },
  );
  await grown.service.stop();
  const wrong = await createControlPlane(servers, { POOLS: '10.96.0.0/15' });
  await assert.rejects(
    wrong.service.start(),
    /POOLS: got \\?"10.96.0.0\/15\\?", expected networks of no other pool: .*overlaps 10.96.0.0\/16 of pool \\?"guests/,
  );
});
