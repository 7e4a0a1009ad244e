import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type RawBuilder, sql } from 'kysely';
import { describeDifference } from '../../../control-plane/verify/difference.ts';
import { verifyProjections } from '../../../control-plane/verify/verify-projections.ts';
import { waitFor } from '../../support/wait-for.ts';
import { startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';
import { TestLog } from '../projector/test-log.ts';
import { BusyLog } from '../rebuild/busy-log.ts';

let postgres: TestPostgres;
let log: TestLog;
before(async () => {
  postgres = await startTestPostgres();
  log = await TestLog.open(postgres);
  await new BusyLog(log).feed(12);
});
after(async () => postgres.stop());

async function differences(): Promise<string[]> {
  const { findings } = await verifyProjections(log.database, { limit: 3 });
  return findings.flatMap((found) => found.differences.map(describeDifference));
}

/** What verify says of a database that was tampered with, and that it says nothing once that is undone. */
async function tamper(change: RawBuilder<unknown>, undo: RawBuilder<unknown>): Promise<string[]> {
  try {
    await change.execute(log.database);
    return await differences();
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

test('a log and its projections: no difference', async () => {
  assert.deepEqual(await differences(), []);
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

test('differences are told up to a limit of each table, and counted beyond it', async () => {
  const found = await (async () => {
    await sql`UPDATE connection_failures SET count = 4`.execute(log.database);
    const { findings } = await verifyProjections(log.database, { limit: 2 });
    await sql`UPDATE connection_failures SET count = 3`.execute(log.database);
    return findings.find(({ name }) => name === 'connection_failures');
  })();
  assert.equal(found?.differences.length, 2);
  assert.equal(found?.count, 36);
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
