import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import type { Database } from '../../../control-plane/storage/database.ts';
import { insertRows } from '../../../control-plane/storage/insert-rows.ts';
import { pseudoRandomBytes } from '../../../deploy/local/pseudo-random.ts';
import {
  assigned,
  at,
  closed,
  connectionOf,
  established,
  released,
  SampleNode,
  totals,
} from '../../unit/projections/sample-events.ts';
import { startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';
import { granted, TestLog } from '../projector/test-log.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(async () => postgres.stop());

async function sessionsAt(database: Database, seconds: number) {
  const { rows } = await sql<{ client_id: string; presumed: boolean; addresses: string[] | null }>`
    SELECT client_id, presumed, addresses FROM sessions_at(${at(seconds)}::timestamptz) ORDER BY client_id`.execute(
    database,
  );
  return rows;
}

test('the sessions of a moment: begun and not ended, with their addresses; those of a silent node are marked', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const [early, late, held] = ['early', 'late', 'held'].map(connectionOf) as [
    ReturnType<typeof connectionOf>,
    ReturnType<typeof connectionOf>,
    ReturnType<typeof connectionOf>,
  ];
  await log.decide(granted('node-a', -60, 3600));
  await log.deliver([
    node.started(0),
    established(node, early, 10),
    established(node, held, 20),
    assigned(node, held, 20),
    closed(node, early, 100, totals(0, 0), 90),
    established(node, late, 200),
  ]);
  await log.decide({
    type: 'connection.presumed_closed',
    at: at(300),
    data: { ...held, node: 'node-a', reason: 'node_lost' },
  });

  const names = async (seconds: number) => (await sessionsAt(log.database, seconds)).map(({ client_id }) => client_id);
  assert.deepEqual(await names(9), []);
  assert.deepEqual(await names(10), ['early']);
  assert.deepEqual(await names(99), ['early', 'held']);
  assert.deepEqual(await names(100), ['held'], 'an end is exclusive');
  const [first] = await sessionsAt(log.database, 299);
  assert.deepEqual(first, { client_id: 'held', presumed: false, addresses: ['10.99.3.7'] });
  assert.equal((await sessionsAt(log.database, 300))[0]?.presumed, true);
  const { rows } = await sql`SELECT * FROM session_counts_at(${at(300)}::timestamptz)`.execute(log.database);
  assert.deepEqual(rows, [{ node: 'node-a', sessions: 2, presumed: 1, clients: 2 }]);
});

test('sessions of any length, from milliseconds to years, are found at any moment of them and at no other', async () => {
  const database = await postgres.database();
  const bytes = pseudoRandomBytes('sessions', 2_000 * 8);
  const random = (index: number) => bytes.readUInt32BE(index * 4) / 2 ** 32;
  const SECONDS_PER_YEAR = 365 * 86_400;
  const sessions = Array.from({ length: 2_000 }, (_, i) => {
    const from = Math.floor(random(2 * i) * SECONDS_PER_YEAR);
    // Evenly spread over the orders of magnitude, some exactly at the bounds of the index's groups.
    const exact = [60, 300, 1800, 7200, 28_800, 86_400, 345_600, 1_382_400, 5_529_600][i % 20];
    const lasted = exact ?? 10 ** (random(2 * i + 1) * 10.5 - 3);
    return {
      id: `00000000-0000-4000-8000-${String(i).padStart(12, '0')}`,
      from: from * 1000,
      until: Math.round((from + lasted) * 1000),
    };
  });
  await database.transaction().execute((trx) =>
    insertRows<(typeof sessions)[number]>(
      trx,
      'connections',
      {
        connection_id: { type: 'uuid', value: ({ id }) => id },
        client_id: { type: 'text', value: () => 'client' },
        node: { type: 'text', value: () => 'node-a' },
        incarnation: { type: 'text', value: () => '0' },
        state: { type: 'text', value: () => 'closed' },
        reason: { type: 'text', value: () => 'client' },
        established_at: { type: 'timestamptz', value: ({ from }) => new Date(from).toISOString() },
        closed_at: { type: 'timestamptz', value: ({ until }) => new Date(until).toISOString() },
        sampled_bytes_in: { type: 'bigint', value: () => 0 },
        sampled_bytes_out: { type: 'bigint', value: () => 0 },
        sampled_packets_in: { type: 'bigint', value: () => 0 },
        sampled_packets_out: { type: 'bigint', value: () => 0 },
      },
      sessions,
    ),
  );
  const moments = sessions.slice(0, 40).flatMap(({ from, until }) => [from - 1, from, until - 1, until]);
  for (const moment of moments) {
    const { rows } = await sql<{ connection_id: string }>`
      SELECT connection_id FROM sessions_at(${new Date(moment).toISOString()}::timestamptz) ORDER BY 1`.execute(
      database,
    );
    const expected = sessions.filter(({ from, until }) => from <= moment && moment < until).map(({ id }) => id);
    assert.deepEqual(
      rows.map(({ connection_id }) => connection_id),
      expected,
      String(moment),
    );
  }
});

test('failed authentications by remote address, floods counted by their attempts', async () => {
  const log = await TestLog.open(postgres);
  const failed = (node: SampleNode, seconds: number, remoteAddress: string, count: number, status = 401) =>
    node.event('connection.failed', seconds, {
      remoteAddress,
      clientId: status === 403 ? 'mallory' : null,
      status,
      reason: status === 403 ? 'revoked' : 'unknown token',
      errorType: status === 503 ? 'connection' : 'auth',
      count,
    });
  const [a, b] = [new SampleNode('node-a'), new SampleNode('node-b')];
  await log.deliver([
    a.started(0),
    failed(a, 1, '192.0.2.1', 1),
    failed(a, 2, '192.0.2.1', 500),
    failed(a, 3, '192.0.2.9', 1, 503),
  ]);
  await log.deliver([
    b.started(0),
    failed(b, 4, '192.0.2.1', 2, 403),
    failed(b, 5, '2001:db8::1', 3),
    failed(b, 60, '192.0.2.1', 9),
  ]);
  const { rows } = await sql`
    SELECT * FROM failed_authentications_by_address(${at(0)}::timestamptz, ${at(60)}::timestamptz)`.execute(
    log.database,
  );
  assert.deepEqual(rows, [
    {
      remote_address: '192.0.2.1',
      failures: 503,
      reports: 3,
      first_at: new Date(at(1)),
      last_at: new Date(at(4)),
      nodes: ['node-a', 'node-b'],
      client_ids: ['mallory'],
      reasons: ['revoked', 'unknown token'],
    },
    {
      remote_address: '2001:db8::1',
      failures: 3,
      reports: 1,
      first_at: new Date(at(5)),
      last_at: new Date(at(5)),
      nodes: ['node-b'],
      client_ids: null,
      reasons: ['unknown token'],
    },
  ]);
  const single = await log.database
    .selectFrom('failed_authentications')
    .select(['failures', 'reason'])
    .orderBy('position')
    .execute();
  assert.equal(single.length, 5, 'a 503 is no failed authentication');
});

test('a claim to an address that somebody holds is shown beside who holds it, and does not change who does', async () => {
  const log = await TestLog.open(postgres);
  const [a, b] = [new SampleNode('node-a'), new SampleNode('node-b')];
  const [alice, bob] = [connectionOf('alice'), connectionOf('bob')];
  await log.deliver([a.started(0), assigned(a, alice, 10)]);
  await log.deliver([b.started(0), assigned(b, bob, 15), released(b, bob, 30)]);
  await log.deliver([released(a, alice, 40)]);
  assert.deepEqual(
    (await log.holders('10.99.3.7', 20)).map((row) => row.client_id),
    ['alice'],
  );
  const claims = await sql`SELECT * FROM conflicting_claims`.execute(log.database);
  assert.deepEqual(claims.rows, [
    {
      address: '10.99.3.7',
      at: new Date(at(15)),
      client_id: 'bob',
      node: 'node-b',
      connection_id: bob.connectionId,
      holder_client_id: 'alice',
      holder_node: 'node-a',
      holder_connection_id: alice.connectionId,
      holder_from: new Date(at(10)),
      holder_until: new Date(at(40)),
      position: 4,
    },
  ]);
});

test('changes to clients say who made them and what is new', async () => {
  const log = await TestLog.open(postgres);
  await log.decide(
    granted('node-a', 0, 60),
    { type: 'client.enrolled', at: at(1), data: { clientId: 'a', name: 'A', pool: 'default', actor: 'admin' } },
    { type: 'client.addresses_set', at: at(2), data: { clientId: 'a', addresses: ['10.99.0.9'], actor: 'ada' } },
    { type: 'client.revoked', at: at(3), data: { clientId: 'a', actor: 'ada' } },
  );
  const changes = await log.database.selectFrom('admin_changes').selectAll().orderBy('position').execute();
  const of = { subject_kind: 'client', subject_id: 'a' };
  assert.deepEqual(changes, [
    {
      position: 2,
      at: new Date(at(1)),
      actor: 'admin',
      type: 'client.enrolled',
      ...of,
      change: { name: 'A', pool: 'default' },
    },
    {
      position: 3,
      at: new Date(at(2)),
      actor: 'ada',
      type: 'client.addresses_set',
      ...of,
      change: { addresses: ['10.99.0.9'] },
    },
    { position: 4, at: new Date(at(3)), actor: 'ada', type: 'client.revoked', ...of, change: {} },
  ]);
});
