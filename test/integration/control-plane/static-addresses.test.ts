import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { createInbox } from 'nats';
import { STATIC_RECLAIM_GRACE_MS } from '../../../control-plane/blocks/block-aggregate.ts';
import { blockReplyMessage, blockRequestMessage, blockRequestSubject } from '../../../shared/nats/messages.ts';
import { nodeInbox } from '../../../shared/nats/node-permissions.ts';
import {
  staticReplyMessage,
  staticRequestMessage,
  staticRequestSubject,
} from '../../../shared/nats/static-address-messages.ts';
import { needsBinary } from '../../support/requirements.ts';
import { SimulatedNode } from '../../support/simulated-node/simulated-node.ts';
import { waitFor } from '../../support/wait-for.ts';
import { type ControlPlane, createControlPlane, startServers, type TestServers } from './control-plane-setup.ts';

const skip = needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 20_000;
/** Short, so that the test sees one end. */
const LEASE_SECONDS = 3;
const FOUR = '10.99.3.199';
const SIX = 'fd00:99::c8:7';
const OTHER = '10.99.3.200';
const OWN = { ada: [FOUR, SIX], bob: [OTHER] };

let servers: TestServers;
let controlPlane: ControlPlane;
let standby: ControlPlane;
let nodes = 0;

before(async () => {
  if (skip) return;
  servers = await startServers();
  // Sixteen blocks of IPv4.
  const env = { STATIC_LEASE_SECONDS: String(LEASE_SECONDS), POOLS: '10.99.0.0/22,fd00:99::/64' };
  controlPlane = await createControlPlane(servers, env);
  await controlPlane.service.start();
  standby = await createControlPlane(servers, env);
  for (const id of ['ada', 'bob', 'eve']) {
    assert.equal((await controlPlane.call('POST', '/v1/clients', { id })).status, 201);
  }
});

after(async () => {
  if (skip) return;
  await Promise.all([controlPlane?.service.stop(), standby?.service.stop()]);
  await servers?.stop();
});

/** A node without tunnels, all else of which is real. */
async function startNode(t: TestContext): Promise<SimulatedNode> {
  const id = `sim-${++nodes}`;
  const stateDir = join(servers.directory, id);
  mkdirSync(stateDir, { recursive: true });
  const node = new SimulatedNode({ id, natsUrl: servers.nats.url, stateDir, clients: ['eve'], ownAddresses: OWN });
  await node.start();
  t.after(() => node.stop().catch(() => undefined));
  await waitFor(() => node.isSupplied, { timeoutMs: TIMEOUT_MS, what: `addresses of ${id}` });
  return node;
}

const put = (id: string, addresses: readonly string[]) =>
  controlPlane.call('PUT', `/v1/clients/${id}/addresses`, { addresses });

async function rows<Row>(text: string, values: unknown[] = []): Promise<Row[]> {
  return (await servers.sql.query(text, values)).rows as Row[];
}

const untilIdle = (...all: SimulatedNode[]) =>
  waitFor(() => all.every((node) => node.depth === 0), { timeoutMs: TIMEOUT_MS, what: 'empty spools' });

interface Assignment {
  readonly node: string;
  readonly block: string;
  readonly ended: boolean;
  readonly within: boolean;
}

/** Who had an address, in time; each with whether it lies in a grant of its node. */
const assignments = (address: string) =>
  rows<Assignment>(
    `SELECT a.node, a.block::text, NOT upper_inf(a.during) AS ended,
       EXISTS (SELECT FROM block_grants g WHERE g.node = a.node AND g.block = a.block AND a.during <@ g.during) AS within
     FROM address_assignments a WHERE address = $1::inet ORDER BY lower(during)`,
    [address],
  );

test('addresses are given to a client, shown, kept from others, and taken away', { skip }, async () => {
  const given = await put('ada', ['FD00:99::C8:7', FOUR]);
  assert.equal(given.status, 200, JSON.stringify(given.body));
  assert.deepEqual([...(given.body.addresses as string[])].sort(), [FOUR, SIX]);
  const taken = await put('bob', [FOUR]);
  assert.deepEqual([taken.status, taken.body.code, taken.body.field], [409, 'ADDRESS_TAKEN', 'addresses']);
  assert.match(String(taken.body.detail), /"10.99.3.199" is the address of client "ada"/);
  assert.equal((await put('bob', [OTHER])).status, 200);
  assert.equal((await put('eve', ['10.99.3.201'])).status, 200);
  assert.deepEqual((await put('eve', [])).body.addresses, []);
  assert.equal((await put('nobody', [FOUR])).status, 404);
  const events = await rows<{ data: unknown }>(`SELECT data FROM events WHERE type = 'client.addresses_set'`);
  assert.deepEqual(events[0]?.data, { clientId: 'ada', addresses: [FOUR, SIX], actor: 'admin' });
  assert.equal(events.length, 4);
});

for (const [addresses, status, code] of [
  [['10.99.0'], 400, 'ADDRESS_INVALID'],
  [['10.99.3.201', '10.99.3.202'], 400, 'ADDRESS_FAMILY_TWICE'],
  [['192.0.2.1'], 400, 'ADDRESS_OUTSIDE_POOL'],
  [['10.99.3.255'], 400, 'ADDRESS_RESERVED'],
  [['10.99.3.192'], 400, 'ADDRESS_RESERVED'],
  [[7], 400, 'INVALID_REQUEST'],
] as const) {
  test(`PUT addresses ${JSON.stringify(addresses)} answers ${status} ${code}`, { skip }, async () => {
    const { status: got, body } = await put('eve', addresses as unknown as string[]);
    assert.deepEqual([got, body.code], [status, code]);
    if (code !== 'INVALID_REQUEST')
      assert.match(String(body.detail), new RegExp(String(addresses.at(-1)).replaceAll('.', '[.]')));
  });
}

test('a static address goes with its client from node to node, and no moment has two holders', { skip }, async (t) => {
  const [a, b] = [await startNode(t), await startNode(t)];
  const first = await a.open('ada');
  assert.ok(first);
  assert.deepEqual(a.addressesOf(first), [FOUR, SIX]);
  for (const [from, to] of [
    [a, b],
    [b, a],
    [a, b],
  ] as const) {
    const before = from.size;
    const moved = await to.open('ada');
    assert.ok(moved, 'the node that has it gives it up in time');
    assert.deepEqual(to.addressesOf(moved), [FOUR, SIX]);
    assert.equal(from.size, before - 1, 'the older tunnel is closed');
  }
  await untilIdle(a, b);
  for (const address of [FOUR, SIX]) {
    const found = await assignments(address);
    assert.deepEqual(
      found.map(({ node, ended }) => [node, ended]),
      [
        [a.id, true],
        [b.id, true],
        [a.id, true],
        [b.id, false],
      ],
    );
    assert.ok(
      found.every(({ within }) => within),
      JSON.stringify(found),
    );
  }
  assert.deepEqual(await rows('SELECT * FROM address_conflicts'), []);
  const ends = await rows<{ reason: string; detail: string }>(
    `SELECT reason FROM connections WHERE client_id = 'ada' AND state = 'closed'`,
  );
  assert.deepEqual(
    ends.map(({ reason }) => reason),
    ['client', 'client', 'client'],
  );
});

test('the newest tunnel of a client has its address, also at the same node', { skip }, async (t) => {
  const node = await startNode(t);
  const first = await node.open('bob');
  assert.ok(first);
  const second = await node.open('bob');
  assert.ok(second);
  assert.deepEqual(node.addressesOf(first), [], 'closed');
  const [own, free] = node.addressesOf(second);
  assert.equal(own, OTHER);
  assert.match(String(free), /^fd00:99::/, 'of the family without an address of its own it gets one that is free');
  await untilIdle(node);
  assert.deepEqual(await rows('SELECT * FROM address_conflicts'), []);
});

test('a node that is dead has the address until its lease and the grace are over', { skip }, async (t) => {
  const dead = await startNode(t);
  assert.ok(await dead.open('bob'));
  await dead.abandon();
  const diedAt = performance.now();
  const node = await startNode(t);
  assert.equal(await node.open('bob'), undefined, 'refused while the other node may have it');
  const state = await rows<{ node: string }>(`SELECT node FROM block_states WHERE block = '10.99.3.200/32'`);
  assert.equal(state[0]?.node, dead.id);
  await waitFor(async () => (await node.open('bob')) !== undefined, { timeoutMs: 30_000, what: 'the address' });
  const waited = performance.now() - diedAt;
  assert.ok(waited > STATIC_RECLAIM_GRACE_MS, `${waited} ms`);
  await untilIdle(node);
  const found = await assignments(OTHER);
  assert.deepEqual(
    found.slice(-2).map(({ node: holder, ended, within }) => [holder, ended, within]),
    [
      [dead.id, true, true],
      [node.id, false, true],
    ],
  );
  assert.deepEqual(await rows('SELECT * FROM address_conflicts'), []);
});

test('a new leader knows who has the address and gets it back', { skip }, async (t) => {
  const [a, b] = [await startNode(t), await startNode(t)];
  assert.ok(await a.open('ada'));
  await standby.service.start();
  await controlPlane.service.kill();
  await waitFor(async () => (await b.open('ada')) !== undefined, { timeoutMs: TIMEOUT_MS, what: 'the address at b' });
  assert.equal(a.size, 0);
  await untilIdle(a, b);
  assert.ok((await assignments(FOUR)).every(({ within }) => within));
  assert.deepEqual(await rows('SELECT * FROM address_conflicts'), []);
  await standby.service.stop();
  await controlPlane.service.start();
});

test('a static address goes with the pool of its client, and another pool that has its network later does not bring it back', {
  skip,
}, async () => {
  const network = '10.97.0.0/24';
  const address = '10.97.0.199';
  assert.equal((await controlPlane.call('POST', '/v1/pools', { name: 'old', v4: network })).status, 201);
  assert.equal((await controlPlane.call('POST', '/v1/clients', { id: 'gus', pool: 'old' })).status, 201);
  assert.equal((await put('gus', [address])).status, 200);
  assert.equal((await controlPlane.call('DELETE', '/v1/pools/old')).body.state, 'retired');
  await rows(`UPDATE pool_states SET state_since = state_since - interval '2 minutes' WHERE name = 'old'`);
  assert.equal((await controlPlane.call('POST', '/v1/pools', { name: 'new', v4: network })).status, 201);
  const acquire = async () => {
    const request = { op: 'acquire', node: 'node-y', clientId: 'gus', address } as const;
    const options = { timeout: 5_000, noMux: true, reply: createInbox(nodeInbox('node-y')) };
    const subject = staticRequestSubject('node-y');
    const reply = await servers.connection.request(subject, staticRequestMessage.encode(request), options);
    return staticReplyMessage.decode(reply.data);
  };
  const refused = await acquire();
  assert.deepEqual([refused.ok, !refused.ok && refused.code], [false, 'unavailable']);
  assert.equal((await controlPlane.call('PATCH', '/v1/clients/gus', { pool: 'new' })).status, 200);
  assert.equal((await acquire()).ok, true);
});

test('no block with a static address in it is granted, and what a node holds is no static address', {
  skip,
}, async () => {
  const ask = async () => {
    const request = { op: 'acquire', node: 'node-z', family: 4, requestId: String(++nodes).padStart(32, '0') } as const;
    const options = { timeout: 5_000, noMux: true, reply: createInbox(nodeInbox('node-z')) };
    const reply = await servers.connection.request(
      blockRequestSubject('node-z'),
      blockRequestMessage.encode(request),
      options,
    );
    return blockReplyMessage.decode(reply.data);
  };
  // The test before may have left no leader, for a moment.
  let last = await waitFor(ask, { timeoutMs: TIMEOUT_MS, what: 'an answer about blocks' });
  while (last.ok) last = await ask();
  assert.equal(last.code, 'exhausted');
  const granted = await rows<{ block: string }>(
    `SELECT block::text FROM block_states WHERE node IS NOT NULL AND masklen(block) < 32 AND block >>= ANY(ARRAY['${FOUR}', '${OTHER}']::inet[])`,
  );
  assert.deepEqual(granted, []);
  const [held] = await rows<{ block: string; node: string }>(
    `SELECT block::text, node FROM block_states WHERE node IS NOT NULL AND family(block) = 4 AND masklen(block) = 26`,
  );
  const inside = String(held?.block).replace(/[.](\d+)[/]26$/, (_all, low) => `.${Number(low) + 7}`);
  const refused = await put('eve', [inside]);
  assert.deepEqual([refused.status, refused.body.code], [409, 'ADDRESS_IN_USE']);
  assert.ok(String(refused.body.detail).includes(`${held?.block}, which node "${held?.node}" holds`));
});
