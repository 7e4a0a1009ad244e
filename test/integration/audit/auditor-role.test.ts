import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { rebuildProjections } from '../../../control-plane/rebuild/rebuild-projections.ts';
import { AUDITOR_ROLE, auditorProblem } from '../../../control-plane/storage/auditor-role.ts';
import { createDatabase, createPool, type Database } from '../../../control-plane/storage/database.ts';
import { migrate } from '../../../control-plane/storage/migrate.ts';
import { LOCK_LOG } from '../../../control-plane/storage/projection-lock.ts';
import { type PostgresServer, startPostgres } from '../../../deploy/local/postgres.ts';
import { at, SampleNode } from '../../unit/projections/sample-events.ts';
import { ADMINISTRATOR, beginTerm } from '../projector/projector-database.ts';
import { granted, lifeOf, TestLog } from '../projector/test-log.ts';

const VIEWS = [
  'address_history',
  'admin_changes',
  'completeness',
  'conflicting_claims',
  'connection_history',
  'failed_authentications',
  'leaked_addresses',
  'orphaned_addresses',
  'usage_daily',
];
const CALLS = [
  "address_holders('10.99.0.1', now())",
  "epoch_proof('node-a', 'none')",
  'failed_authentications_by_address(now(), now())',
  'session_counts_at(now())',
  'sessions_at(now())',
];
const DENIED = '42501';
/** What the lock of the log was before it was a table's. */
const ADVISORY_LOCK = 0x76706e6c6f67;

const directory = mkdtempSync(join(tmpdir(), 'auditor-'));
let server: PostgresServer;
const open: Database[] = [];
before(async () => {
  server = await startPostgres({ directory, settings: { fsync: 'off' } });
});
after(async () => {
  await Promise.all(open.map((database) => database.destroy()));
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
});

function connect(url: string): Database {
  const database = createDatabase(createPool(url, 'test', () => undefined));
  open.push(database);
  return database;
}

function asUser(url: string, user: string): string {
  const changed = new URL(url);
  changed.username = user;
  changed.password = user;
  return changed.href;
}

async function query(url: string, ...statements: string[]): Promise<pg.QueryResult> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    let result: pg.QueryResult | undefined;
    for (const statement of statements) result = await client.query(statement);
    assert.ok(result);
    return result;
  } finally {
    await client.end();
  }
}

/** What the user may read of everything that is there. Anything but a refusal for want of rights is thrown. */
async function readable(url: string, statements: readonly string[]): Promise<string[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const allowed: string[] = [];
  try {
    for (const what of statements) {
      try {
        await client.query(`SELECT * FROM ${what} LIMIT 1`);
        allowed.push(what);
      } catch (error) {
        if (!(error instanceof pg.DatabaseError) || error.code !== DENIED) throw error;
      }
    }
    return allowed;
  } finally {
    await client.end();
  }
}

async function relations(url: string): Promise<string[]> {
  const { rows } = await query(
    url,
    `SELECT CASE n.nspname WHEN 'public' THEN '' ELSE quote_ident(n.nspname) || '.' END || quote_ident(c.relname) AS name
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
       AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%' ORDER BY 1`,
  );
  return rows.map(({ name }) => name);
}

test('a user that may not create roles migrates all the same, and the log says what to run for auditors', async () => {
  const url = await server.createDatabase('plain');
  await query(url, "CREATE ROLE plain LOGIN PASSWORD 'plain'", 'ALTER DATABASE plain OWNER TO plain');
  const database = connect(asUser(url, 'plain'));
  await migrate(database);
  const missing = await auditorProblem(database);
  assert.match(missing ?? '', /as a superuser: CREATE ROLE masque_vpn_auditor NOLOGIN; .*SELECT grant_to_auditor\(\)$/);

  await query(url, `CREATE ROLE ${AUDITOR_ROLE} NOLOGIN`);
  const ungranted = await auditorProblem(database);
  assert.ok(ungranted?.endsWith('SELECT grant_to_auditor()') && !ungranted.includes('CREATE ROLE'));

  await query(asUser(url, 'plain'), 'SELECT grant_to_auditor()');
  assert.equal(await auditorProblem(database), undefined);
  await query(url, `CREATE ROLE paula LOGIN PASSWORD 'paula' IN ROLE ${AUDITOR_ROLE}`);
  assert.deepEqual(await readable(asUser(url, 'paula'), await relations(url)), VIEWS);
});

test('two databases of one server that are made at the same time share the role', async () => {
  await query(await server.createDatabase('plain'), `DROP OWNED BY ${AUDITOR_ROLE}`, `DROP ROLE ${AUDITOR_ROLE}`);
  const urls = [await server.createDatabase('one'), await server.createDatabase('two')];
  const databases = urls.map(connect);
  await Promise.all(databases.map((database) => migrate(database)));
  for (const database of databases) assert.equal(await auditorProblem(database), undefined);
});

test('an auditor reads the views and functions for auditors, and nothing else', async () => {
  const url = await server.createDatabase('audited');
  await migrate(connect(url));
  await query(url, `CREATE ROLE anna LOGIN PASSWORD 'anna' IN ROLE ${AUDITOR_ROLE}`);
  const asAnna = asUser(url, 'anna');
  const all = await relations(url);
  assert.ok(all.includes('client_credentials') && all.includes('events_000000') && all.includes('ip_ledger_id_seq'));
  assert.deepEqual(await readable(asAnna, all), VIEWS);
  assert.deepEqual(await readable(asAnna, CALLS), CALLS);
  for (const statement of [
    "INSERT INTO admin_changes (actor) VALUES ('x')",
    'DELETE FROM connection_history',
    'SELECT ensure_event_partitions(5000000)',
    'CREATE TABLE mine (x integer)',
    // Who holds that of the log stops the control plane.
    `SELECT pg_advisory_lock(${ADVISORY_LOCK})`,
    `SELECT pg_try_advisory_xact_lock(${ADVISORY_LOCK})`,
    'SELECT pg_advisory_lock_shared(1, 2)',
    "SELECT keep_advisory_locks('anna')",
  ]) {
    await assert.rejects(query(asAnna, statement), { code: DENIED }, statement);
  }

  const unexplained = await query(
    asAnna,
    `SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prorettype <> 'trigger'::regtype
       AND obj_description(oid, 'pg_proc') IS NULL`,
  );
  assert.deepEqual(unexplained.rows, [], 'every function says in the database what it does');

  await query(url, "CREATE ROLE eve LOGIN PASSWORD 'eve'");
  assert.deepEqual(await readable(asUser(url, 'eve'), [...all, ...CALLS]), []);
});

test('an auditor cannot stop the log: its lock needs a right, and no lock of the auditor is in its way', async () => {
  const url = await server.createDatabase('locked');
  const database = connect(url);
  await migrate(database);
  // As where no superuser migrated.
  await query(url, 'GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO PUBLIC');
  await query(url, `CREATE ROLE lara LOGIN PASSWORD 'lara' IN ROLE ${AUDITOR_ROLE}`);
  const lara = new pg.Client({ connectionString: asUser(url, 'lara') });
  await lara.connect();
  try {
    await assert.rejects(query(asUser(url, 'lara'), 'BEGIN', LOCK_LOG), { code: DENIED });
    await lara.query('BEGIN');
    // Any advisory lock, and all that one who may read a view can lock.
    await lara.query(`SELECT pg_advisory_lock(${ADVISORY_LOCK})`);
    for (const view of VIEWS) await lara.query(`LOCK TABLE ${view} IN ACCESS SHARE MODE`);
    const log = new TestLog(database, await beginTerm(database));
    await log.decide(granted('node-a', -60, 3600));
    await log.deliver(lifeOf(new SampleNode('node-a'), 'alice'));
  } finally {
    await lara.end();
  }
  const { rows } = await query(url, 'SELECT count(*)::integer AS connections FROM connections');
  assert.deepEqual(rows, [{ connections: 1 }]);
});

test('after a rebuild the views and functions show the new tables, to auditors too', async () => {
  const url = await server.createDatabase('rebuilt');
  const database = connect(url);
  await migrate(database);
  const log = new TestLog(database, await beginTerm(database));
  await log.decide(granted('node-a', -60, 3600), {
    type: 'client.enrolled',
    at: at(-30),
    data: { clientId: 'alice', name: 'Alice', pool: 'default', actor: 'admin' },
  });
  await log.deliver(lifeOf(new SampleNode('node-a'), 'alice'));
  await query(url, 'DELETE FROM connections', 'DELETE FROM admin_events', 'DELETE FROM connection_failures');
  await rebuildProjections(database, ADMINISTRATOR);

  await query(url, `CREATE ROLE rita LOGIN PASSWORD 'rita' IN ROLE ${AUDITOR_ROLE}`);
  const asRita = asUser(url, 'rita');
  assert.deepEqual(await readable(asRita, await relations(url)), VIEWS);
  assert.deepEqual(await readable(asRita, CALLS), CALLS);
  const { rows } = await query(
    asRita,
    `SELECT (SELECT addresses::text FROM connection_history), (SELECT string_agg(actor, ' ' ORDER BY position) AS actors FROM admin_changes),
       (SELECT failures FROM failed_authentications_by_address('-infinity', 'infinity')) AS failures,
       (SELECT sessions FROM session_counts_at('${at(5)}')) AS sessions, (SELECT connections FROM usage_daily) AS connections`,
  );
  assert.deepEqual(rows, [
    { addresses: '{10.99.3.7}', actors: 'admin cli:ada', failures: '3', sessions: '1', connections: '1' },
  ]);
});
