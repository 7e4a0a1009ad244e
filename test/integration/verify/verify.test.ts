import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type RawBuilder, sql } from 'kysely';
import { ClientService } from '../../../control-plane/clients/client-service.ts';
import { DEFAULT_BLOCK_LENGTH } from '../../../control-plane/pools/block-lengths.ts';
import { PoolService } from '../../../control-plane/pools/pool-service.ts';
import { loadActiveLayout } from '../../../control-plane/pools/pool-store.ts';
import { StaticAddressService } from '../../../control-plane/static-addresses/static-address-service.ts';
import { type Difference, describeDifference } from '../../../control-plane/verify/difference.ts';
import { verifyProjections } from '../../../control-plane/verify/verify-projections.ts';
import { ADDRESS_REST_MS } from '../../../shared/ip/block.ts';
import { parsePrefix } from '../../../shared/ip/prefix.ts';
import { differencesOf } from '../../support/differences-of.ts';
import { waitFor } from '../../support/wait-for.ts';
import {
  at,
  closed,
  connectionOf,
  established,
  randomId,
  SampleNode,
  sampled,
} from '../../unit/projections/sample-events.ts';
import { addPool, startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';
import { TestLog } from '../projector/test-log.ts';
import { BusyLog } from '../rebuild/busy-log.ts';

let postgres: TestPostgres;
let log: TestLog;
before(async () => {
  postgres = await startTestPostgres();
  log = await TestLog.open(postgres);
  await new BusyLog(log).feed(12);
  await changeClientsAndPools(log);
});
after(async () => postgres.stop());

/** Pools in every state, clients with and without addresses of their own, one of which is at a node. */
async function changeClientsAndPools({ database, ownerEpoch }: TestLog): Promise<void> {
  const context = { database, incarnation: randomId() };
  const term = { ownerEpoch, signal: new AbortController().signal };
  const pools = new PoolService(context);
  const clients = new ClientService({ ...context, onCredentialChange: () => undefined, loadPool: loadActiveLayout });
  const addresses = new StaticAddressService({ ...context, leaseSeconds: 60, askForRelease: () => undefined });

  for (const [name, prefixes] of Object.entries({
    default: ['10.99.0.0/16', 'fd00:99::/48'],
    office: ['10.98.0.0/16'],
    lab: ['10.97.0.0/16'],
    dorm: ['10.96.0.0/16'],
    attic: ['10.94.0.0/16'],
  }))
    await addPool(database, name, prefixes);
  await log.decide({
    type: 'block.granted',
    at: at(0),
    data: { block: '10.96.0.0/26', pool: '10.96.0.0/16', node: 'node-a', leaseEnd: at(60) },
  });
  await pools.retire(term, 'lab', false, 'test');
  await pools.retire(term, 'dorm', false, 'test');
  await pools.retire(term, 'dorm', true, 'test');

  for (const id of ['ada', 'bob', 'dan', 'eve', 'joe', 'zoe']) await clients.enrol(term, { id, actor: 'test' });
  await clients.setAddresses(term, 'ada', ['10.99.255.7', 'fd00:99::ffff:7'], 'test');
  await clients.setAddresses(term, 'ada', ['10.99.255.7', 'fd00:99::ffff:8'], 'test');
  await clients.setAddresses(term, 'bob', ['10.99.255.9'], 'test');
  await clients.revoke(term, 'bob', 'test');
  await clients.update(term, 'eve', { pool: 'office' }, 'test');
  await clients.setAddresses(term, 'eve', ['10.98.255.9'], 'test');
  // Taken away between, by itself and with all.
  for (const wanted of [['10.99.255.11'], [], ['10.99.255.11']])
    await clients.setAddresses(term, 'joe', wanted, 'test');
  await clients.setAddresses(term, 'dan', ['10.99.255.13'], 'test');
  await clients.revoke(term, 'dan', 'test');
  await clients.enrol(term, { id: 'dan', actor: 'test' });
  await clients.setAddresses(term, 'dan', ['10.99.255.13'], 'test');
  // It stays one of the network that it was given in.
  await addPool(database, 'default', ['10.99.0.0/17', '10.99.128.0/17', 'fd00:99::/48']);
  await clients.update(term, 'zoe', { pool: 'attic' }, 'test');
  await clients.setAddresses(term, 'zoe', ['10.94.255.3'], 'test');
  await pools.retire(term, 'attic', false, 'test');
  const rested = new PoolService({ ...context, clock: async () => Date.now() + 2 * ADDRESS_REST_MS });
  const loft = { prefixes: [parsePrefix('10.94.0.0/16')], blockLength: DEFAULT_BLOCK_LENGTH };
  await rested.add(term, 'loft', loft, 'test');
  await clients.update(term, 'zoe', { pool: 'loft' }, 'test');

  const [node, address] = ['node-a', '10.99.255.7'];
  const acquired = await addresses.handle(term, { op: 'acquire', node, clientId: 'ada', address });
  assert.ok(acquired.ok);
  const renewed = await addresses.handle(term, {
    op: 'renew',
    node,
    grants: [{ address, grant: acquired.leases[0]!.grant }],
  });
  assert.ok(renewed.ok && renewed.leases.length === 1);
}

/** What verify says of a database that was tampered with, and that it says nothing once that is undone. */
async function tamper(change: RawBuilder<unknown>, undo: RawBuilder<unknown>): Promise<string[]> {
  try {
    await change.execute(log.database);
    return await differencesOf(log.database);
  } finally {
    await undo.execute(log.database);
  }
}

/** Keeps a copy of a table, and puts it back. */
async function tamperWith(table: string, change: RawBuilder<unknown>): Promise<string[]> {
  const [live, kept] = [sql.table(table), sql.id('kept', table)];
  await sql`CREATE SCHEMA kept; CREATE TABLE ${kept} AS SELECT * FROM ${live}`.execute(log.database);
  const { rows } = await sql<{ columns: string }>`
    SELECT string_agg(quote_ident(column_name), ', ') AS columns FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name = ${table} AND is_generated = 'NEVER'`.execute(log.database);
  const columns = sql.raw(rows[0]?.columns ?? '');
  return await tamper(
    change,
    sql`
      ALTER TABLE ${live} DISABLE TRIGGER USER; DELETE FROM ${live}; ALTER TABLE ${live} ENABLE TRIGGER USER;
      INSERT INTO ${live} (${columns}) OVERRIDING SYSTEM VALUE SELECT ${columns} FROM ${kept}; DROP SCHEMA kept CASCADE`,
  );
}

function assertNamed(found: readonly string[], ...expected: readonly RegExp[]): void {
  for (const line of expected)
    assert.ok(
      found.some((text) => line.test(text)),
      `${line}\n${found.join('\n')}`,
    );
}

/** The same, and nothing else. */
function assertOnly(found: readonly string[], ...expected: readonly RegExp[]): void {
  assertNamed(found, ...expected);
  assert.equal(found.length, expected.length, found.join('\n'));
}

test('a log and its projections: no difference', async () => {
  assert.deepEqual(await differencesOf(log.database), []);
});

test('a row that was changed is named with its columns, live and rebuilt', async () => {
  const found = await tamperWith('nodes', sql`UPDATE nodes SET state = 'stopped' WHERE node = 'node-c'`);
  assert.deepEqual(found, ['nodes: node node-c: state is stopped, rebuilt up']);
  const traffic = await tamperWith(
    'connections',
    sql`
    UPDATE connections SET sampled_bytes_in = 1000000 WHERE connection_id = (SELECT connection_id FROM connections LIMIT 1)`,
  );
  assertNamed(traffic, /^connections: connection_id \S+: bytes_in is 1000000, rebuilt \d+; sampled_bytes_in is/);
  assertNamed(traffic, /^connections against their traffic: connection \S+: bytes in .*: 1000000 .*rows add up to \d/);
});

test('a row that is missing and one too many are named', async () => {
  const missing = await tamperWith('held', sql`DELETE FROM held WHERE address = '10.99.3.1'`);
  assertNamed(missing, /^held: pool 10.99.0.0\/16, address 10.99.3.1: the live table lacks it: \{.*"client_id"/);
  const extra = await tamperWith(
    'clients',
    sql`INSERT INTO clients (client_id, state, pool) VALUES ('mallory', 'active', 'default')`,
  );
  assertNamed(extra, /^clients: client_id mallory: does not follow from the log/);
});

test('a counter, a total and a histogram that are off are named', async () => {
  const counter = await tamperWith(
    'event_counters',
    sql`UPDATE event_counters SET value = value + 1 WHERE name = 'connections'`,
  );
  assertNamed(counter, /^event_counters: name connections, label closed: value is \d+, rebuilt \d+$/);
  assertNamed(counter, /^counters against rows: counter connections, label established: it is \d+, the rows make \d+$/);
  const total = await tamperWith(
    'client_totals',
    sql`UPDATE client_totals SET bytes_sent = 1 WHERE client_id = 'ada-1'`,
  );
  assertNamed(total, /^client_totals: client_id ada-1: bytes_sent is 1, rebuilt \d+$/);
  const sums = await tamperWith(
    'client_histograms',
    sql`UPDATE client_histograms SET sum = sum + 0.01 WHERE client_id = 'ada-1'`,
  );
  assertNamed(
    sums,
    /^client_histograms: client_id ada-1, family latency_ms, quantile 0.5: sum is [\d.]+, rebuilt [\d.]+$/,
  );
});

test('an overlapping assignment is named, by the log and by the ledger', async () => {
  const { rows } = await sql<{ definition: string }>`
    SELECT pg_get_constraintdef(oid) AS definition FROM pg_constraint
    WHERE conname = 'address_assignments_address_during_excl'`.execute(log.database);
  await sql`ALTER TABLE address_assignments DROP CONSTRAINT address_assignments_address_during_excl`.execute(
    log.database,
  );
  const found = await tamperWith(
    'address_assignments',
    sql`
    INSERT INTO address_assignments (address, pool, block, client_id, node, connection_id, during, assigned_position)
    SELECT address, pool, block, 'mallory', node, gen_random_uuid(), during, 99999 FROM address_assignments
    WHERE NOT upper_inf(during) LIMIT 1`,
  );
  await sql`
    ALTER TABLE address_assignments ADD CONSTRAINT address_assignments_address_during_excl ${sql.raw(rows[0]?.definition ?? '')}
    `.execute(log.database);
  assertNamed(
    found,
    /^assignments that overlap: address 10.99.3.\d+, position \d+: \S+ held it on node-\w at the same time as/,
  );
  assertNamed(
    found,
    /^assignments against the ledger: address \S+, position 99999: the ledger has no entry that it was assigned$/,
  );
  assertNamed(found, /^address_assignments: assigned_position 99999: does not follow from the log/);
});

test('an entry of the ledger that is missing is named', async () => {
  const found = await tamperWith(
    'ip_ledger',
    sql`
    ALTER TABLE ip_ledger DISABLE TRIGGER USER;
    DELETE FROM ip_ledger WHERE id IN (SELECT id FROM ip_ledger WHERE entry IN ('assigned', 'released') ORDER BY id LIMIT 2)`,
  );
  assertNamed(found, /^ip_ledger: position \d+, entry assigned, .*: the live table lacks it/);
  assertNamed(found, /^assignments against the ledger: .*: the ledger has no entry that it was assigned$/);
});

/** What a check says of a row of a table that decisions are made from. */
const decided = (check: string, key: string, live: string, expected: string) =>
  new RegExp(`^${check}: ${key}: it is ${live}, the events make it ${expected}$`);

test('a block whose state does not follow from the ledger is named', async () => {
  const named = (block: string, live: string, expected: string) =>
    decided('states of blocks against the ledger', `block ${block}`, live, expected);
  const [busy, held, fixed] = ['10.99.3.0/26', '10.96.0.0/26', '10.99.255.7/32'];
  const moved = await tamperWith(
    'block_states',
    sql`
      UPDATE block_states SET node = 'node-z' WHERE block = ${sql.lit(busy)};
      UPDATE block_states SET lease_end = lease_end + interval '1 year' WHERE block = ${sql.lit(held)};
      UPDATE block_states SET lease_end = lease_end - interval '1 hour' WHERE block = ${sql.lit(fixed)}`,
  );
  assertOnly(
    moved,
    named(busy, '.*"node": "node-z".*', '.*"node": "node-a".*'),
    named(held, '.*"lease_end": "2027-.*', '.*"lease_end": "2026-.*'),
    named(fixed, '.*"node": "node-a".*', '.*"node": "node-a".*'),
  );
  const others = await tamperWith(
    'block_states',
    sql`
      UPDATE block_states SET node = NULL, lease_end = NULL, previous_node = 'node-a', freed_at = now()
        WHERE block = ${sql.lit(busy)};
      UPDATE block_states SET version = version + 1 WHERE block = ${sql.lit(held)};
      UPDATE block_states SET pool = '10.99.128.0/17' WHERE block = ${sql.lit(fixed)};
      INSERT INTO block_states (block, pool, version, previous_node, freed_at)
        VALUES ('10.99.4.0/26', '10.99.0.0/16', 2, 'node-b', now())`,
  );
  assertOnly(
    others,
    named(busy, '."node": null, .*"freed_at": "20.*', '."node": "node-a", .*"freed_at": null.*'),
    named(held, '.*"version": 2, .*', '.*"version": 1, .*'),
    named(fixed, '.*"pool": "10.99.128.0/17".*', '.*"pool": "10.99.0.0/16".*'),
    named('10.99.4.0/26', '.*"previous_node": "node-b".*', 'none'),
  );
  const missing = await tamperWith('block_states', sql`DELETE FROM block_states`);
  assertOnly(missing, ...[busy, held, fixed].map((block) => named(block, 'not there', '.*"node": "node-a".*')));
});

test('a block that was given back is free as the ledger says', async () => {
  const fresh = await TestLog.open(postgres);
  const { database } = fresh;
  await new BusyLog(fresh).feed(5);
  assert.deepEqual(await differencesOf(fresh.database), []);
  const named = (live: string) =>
    decided('states of blocks against the ledger', 'block 10.99.3.0/26', live, '.*"previous_node": "node-a".*');
  await sql`UPDATE block_states SET previous_node = 'node-z'`.execute(database);
  assertOnly(await differencesOf(fresh.database), named('.*"previous_node": "node-z".*'));
  await sql`UPDATE block_states SET previous_node = 'node-a', freed_at = freed_at + interval '1 year'`.execute(
    database,
  );
  assertOnly(await differencesOf(fresh.database), named('.*"freed_at": "2027-.*'));
});

test('a pool whose state does not follow from the changes to it is named', async () => {
  const named = (pool: string, live: string, expected: string) =>
    decided('states of pools against the changes', `name ${pool}`, live, expected);
  const changed = await tamperWith(
    'pool_states',
    sql`
      UPDATE pool_states SET prefixes = '{10.99.0.0/16}' WHERE name = 'default';
      UPDATE pool_states SET block_prefix_v4 = 27 WHERE name = 'office';
      UPDATE pool_states SET state = 'active' WHERE name = 'lab';
      UPDATE pool_states SET close_tunnels = false WHERE name = 'dorm'`,
  );
  assertOnly(
    changed,
    named('default', '.*"prefixes": ."10.99.0.0/16"..*', '.*"prefixes": ."10.99.0.0/17", "10.99.128.0/17", .*'),
    named('office', '.*"block_prefix_v4": 27.*', '.*"block_prefix_v4": 26.*'),
    named('lab', '.*"state": "active".*', '.*"state": "retired".*'),
    named('dorm', '.*"close_tunnels": false.*', '.*"close_tunnels": true.*'),
  );
  const others = await tamperWith(
    'pool_states',
    sql`
      UPDATE pool_states SET version = 9, block_prefix_v6 = 127 WHERE name = 'office';
      UPDATE pool_states SET state_since = state_since - interval '1 hour' WHERE name = 'dorm';
      DELETE FROM pool_states WHERE name = 'lab'`,
  );
  assertOnly(
    others,
    named('office', '.*"version": 9, .*"block_prefix_v6": 127.*', '.*"version": 1, .*'),
    named('dorm', '.*"state": "retiring".*', '.*"state": "retiring".*'),
    named('lab', 'not there', '.*"state": "retired".*'),
  );
});

test('a credential that does not follow from its client is named', async () => {
  const named = (client: string, live: string, expected: string) =>
    decided('credentials against the clients', `client_id ${client}`, live, expected);
  const found = await tamperWith(
    'client_credentials',
    sql`
      DELETE FROM client_credentials WHERE client_id = 'ada';
      UPDATE client_credentials SET state = 'active' WHERE client_id = 'bob';
      UPDATE client_credentials SET pool = 'default' WHERE client_id = 'eve';
      UPDATE client_credentials SET version = 7 WHERE client_id = 'joe';
      UPDATE client_credentials SET updated_at = updated_at + interval '1 year' WHERE client_id = 'zoe'`,
  );
  assertOnly(
    found,
    named('ada', 'not there', '.*"state": "active".*'),
    named('bob', '.*"state": "active".*', '.*"state": "revoked".*'),
    named('eve', '.*"pool": "default".*', '.*"pool": "office".*'),
    named('joe', '.*"version": 7, .*', '.*"version": 4, .*'),
    named('zoe', '.*"updated_at": .*', '.*"updated_at": .*'),
  );
});

test('an address of a client of its own that does not follow from the changes to it is named', async () => {
  const named = (address: string, live: string, expected: string) =>
    decided('static addresses against the clients', `address ${address}`, live, expected);
  const changed = await tamperWith(
    'static_addresses',
    sql`
      UPDATE static_addresses SET client_id = 'eve' WHERE address = 'fd00:99::ffff:8';
      UPDATE static_addresses SET pool = '10.0.0.0/8' WHERE address = '10.98.255.9';
      UPDATE static_addresses SET since = since - interval '1 hour' WHERE address = '10.99.255.7';
      INSERT INTO static_addresses (address, client_id, pool, since) VALUES ('10.99.255.9', 'bob', '10.99.0.0/16', now())`,
  );
  assertOnly(
    changed,
    named('fd00:99::ffff:8', '.*"client_id": "eve".*', '.*"client_id": "ada".*'),
    named('10.98.255.9', '.*"pool": "10.0.0.0/8".*', '.*"pool": "10.98.0.0/16".*'),
    named('10.99.255.7', '.*"since": .*', '.*"since": .*'),
    named('10.99.255.9', '.*"client_id": "bob".*', 'none'),
  );
  const missing = await tamperWith('static_addresses', sql`DELETE FROM static_addresses WHERE client_id = 'ada'`);
  assertOnly(
    missing,
    ...['10.99.255.7', 'fd00:99::ffff:8'].map((address) => named(address, 'not there', '.*"client_id": "ada".*')),
  );
});

test('windows that add up to more than the report of the end are named', async () => {
  const fresh = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const told = { bytesIn: 100, bytesOut: 200, packetsIn: 10, packetsOut: 20 };
  const less = Object.keys(told).map((column) => ({ ...told, [column]: 1 }));
  for (const totals of [told, ...less]) {
    const connection = connectionOf('ada');
    await fresh.deliver([
      established(node, connection, 1),
      sampled(node, 6, [{ ...connection, traffic: told }]),
      closed(node, connection, 7, totals),
    ]);
  }
  const named = (atEnd: string) =>
    new RegExp(`^reports of the end against the windows: connection \\S+: .*: ${atEnd} at its end, .* 100 200 10 20$`);
  assertOnly(
    await differencesOf(fresh.database),
    ...['1 200 10 20', '100 1 10 20', '100 200 1 20', '100 200 10 1'].map(named),
  );
});

test('packets that are off are named, of a client and of a day', async () => {
  const total = await tamperWith(
    'client_totals',
    sql`
      UPDATE client_totals SET packets_sent = 987654 WHERE client_id = 'ada-1';
      UPDATE client_totals SET packets_received = 987654 WHERE client_id = 'ada-2'`,
  );
  assertOnly(
    total,
    /^client_totals: client_id ada-1: packets_sent is 987654, rebuilt /,
    /^client_totals: client_id ada-2: packets_received is 987654, rebuilt /,
    ...['ada-1', 'ada-2'].map(
      (client) =>
        new RegExp(`^totals of clients against their days: client ${client}: .* 987654.*, its days add up to \\d`),
    ),
  );
  const day = await tamperWith(
    'traffic_daily',
    sql`
      UPDATE traffic_daily SET packets_in = 987654 WHERE client_id = 'ada-1' AND node = 'node-a';
      UPDATE traffic_daily SET packets_out = 987654 WHERE client_id = 'ada-2' AND node = 'node-a'`,
  );
  assertOnly(
    day,
    /^traffic_daily: client_id ada-1, .*: packets_in is 987654, rebuilt /,
    /^traffic_daily: client_id ada-2, .*: packets_out is 987654, rebuilt /,
    ...['ada-1', 'ada-2'].flatMap((client) => [
      new RegExp(`^totals of clients against their days: client ${client}: .* days add up to .* 98\\d{4}`),
      new RegExp(
        `^days of traffic against their hours: .*client ${client}, node node-a: .* 987654.*, its hours add up`,
      ),
    ]),
  );
});

test('an event that is missing from the log is named', async () => {
  const { rows } = await sql<{ position: number }>`
    SELECT position FROM events WHERE type = 'traffic.sampled' ORDER BY 1 OFFSET 3 LIMIT 1`.execute(log.database);
  const found = await tamperWith('events', sql`DELETE FROM events WHERE position = ${sql.lit(rows[0]?.position)}`);
  assertNamed(
    found,
    /^positions of the log: .* events from position 1 to/,
    /^traffic: position \d+, .*does not follow from the log/,
  );
});

test('every difference is told, up to a limit of each table where there is one, and counted beyond it', async () => {
  const tellOf = async (limit?: number) => {
    const told: Difference[] = [];
    const report = await verifyProjections(log.database, {
      limit,
      onDifference: (difference) => told.push(difference),
    });
    return {
      told: told.map((difference) => describeDifference(difference).split(':')[0]),
      differences: report.differences,
    };
  };
  const rows = 1_234;
  await sql`INSERT INTO client_totals (client_id, last_seen) SELECT 'stranger-' || n, now() FROM generate_series(1, ${rows}) n`.execute(
    log.database,
  );
  const [all, some] = [await tellOf(), await tellOf(2)];
  await sql`DELETE FROM client_totals WHERE client_id LIKE 'stranger-%'`.execute(log.database);
  assert.deepEqual(all, { told: Array(rows).fill('client_totals'), differences: rows });
  assert.deepEqual(some, { told: ['client_totals', 'client_totals'], differences: rows });
});

test('the live projection goes on while it is verified, and does not disturb the comparison', async () => {
  const fresh = await TestLog.open(postgres);
  const busy = new BusyLog(fresh);
  await busy.feed(5);
  let done = false;
  const verifying = verifyProjections(fresh.database, { limit: 3 }).finally(() => {
    done = true;
  });
  let rounds = 0;
  for (; !done; rounds++) await busy.feed(1);
  assert.equal((await verifying).differences, 0);
  assert.ok(rounds > 1, `${rounds}`);
});

test('verify that stands still while the log waits for it loses the lock of the log, and its report', async () => {
  const fresh = await TestLog.open(postgres);
  const { database } = fresh;
  const busy = new BusyLog(fresh);
  await busy.feed(3);
  const reader = await database.startTransaction().execute();
  await sql`SET LOCAL idle_in_transaction_session_timeout = 0`.execute(reader);
  let locking: Promise<unknown> | undefined;
  // Nobody writes this table here, and verify has made its copy of it.
  const onProgress = () => {
    locking ??= sql`LOCK TABLE admin_events IN ACCESS EXCLUSIVE MODE`.execute(reader);
  };
  const verifying = verifyProjections(database, {
    limit: 3,
    onProgress: ({ phase }) => phase === 'replay' && onProgress(),
  });
  const refused = assert.rejects(verifying);
  const isStanding = async () => {
    const { rows } = await sql`
      SELECT FROM pg_locks held JOIN pg_stat_activity a USING (pid)
      WHERE held.relation = 'log_lock'::regclass AND held.granted AND a.state = 'idle in transaction'
        AND EXISTS (SELECT FROM pg_locks WHERE relation = 'admin_events'::regclass AND NOT granted)`.execute(database);
    return rows.length > 0;
  };
  await waitFor(isStanding, { timeoutMs: 10_000, what: 'verify to hold the log and to wait' });
  await busy.feed(1);
  await locking;
  await reader.rollback().execute();
  await refused;
  const { rows } = await sql`SELECT FROM pg_namespace WHERE nspname = 'verify'`.execute(database);
  assert.deepEqual(rows, [], 'its own copy is gone');
  assert.equal((await verifyProjections(database, { limit: 3 })).differences, 0);
});
