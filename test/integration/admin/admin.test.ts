import assert from 'node:assert/strict';
import { userInfo } from 'node:os';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import type { Database, DatabaseTransaction } from '../../../control-plane/storage/database.ts';
import { waitFor } from '../../support/wait-for.ts';
import { runMain } from '../config/run-process.ts';
import { startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';
import { TestLog } from '../projector/test-log.ts';
import { BusyLog } from '../rebuild/busy-log.ts';
import { ADMIN, runAdmin, startAdmin } from './admin-process.ts';

const EXIT_BAD_ARGUMENT = 2;

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(async () => postgres.stop());

/** A session of the admin process that waits for a lock. */
async function waitsForLock(database: Database): Promise<boolean> {
  const { rows } = await sql`
    SELECT FROM pg_stat_activity
    WHERE application_name = 'masque-vpn admin' AND datname = current_database() AND wait_event_type = 'Lock'`.execute(
    database,
  );
  return rows.length > 0;
}

/** Lets go of the lock that `take` takes only when `work` is done. */
async function whileHolding(
  database: Database,
  take: (trx: DatabaseTransaction) => Promise<boolean>,
  work: () => Promise<void>,
): Promise<void> {
  const trx = await waitFor(
    async () => {
      const attempt = await database.startTransaction().execute();
      await sql`SET LOCAL idle_in_transaction_session_timeout = 0`.execute(attempt);
      if (await take(attempt)) return attempt;
      await attempt.rollback().execute();
      return undefined;
    },
    { timeoutMs: 30_000, what: 'the lock', intervalMs: 5 },
  );
  await work();
  await trx.rollback().execute();
}

test('rebuild, killed in the middle and again just before the switch, goes on and ends as if nothing had happened', async () => {
  const log = await TestLog.open(postgres);
  const url = postgres.url();
  await new BusyLog(log).feed(30);
  const first = startAdmin(url, ['rebuild']);
  // Its first chunk is committed, and the second one waits for this row.
  const inTheMiddle = async (trx: DatabaseTransaction) => {
    const { rows } = await sql`
      SELECT FROM projection_copies WHERE schema = 'rebuild' AND position > 0 FOR UPDATE`.execute(trx);
    return rows.length > 0;
  };
  await whileHolding(log.database, inTheMiddle, async () => {
    await waitFor(() => waitsForLock(log.database), { timeoutMs: 30_000, what: 'the next chunk' });
    first.child.kill('SIGKILL');
    await first.ended;
  });
  const reached = await log.database.selectFrom('projection_copies').selectAll().executeTakeFirstOrThrow();
  assert.ok(reached.position > 0);

  const second = startAdmin(url, ['rebuild']);
  const readTables = async (trx: DatabaseTransaction) => {
    await sql`LOCK TABLE connections IN ACCESS SHARE MODE`.execute(trx);
    return true;
  };
  await whileHolding(log.database, readTables, async () => {
    await waitFor(() => waitsForLock(log.database), { timeoutMs: 30_000, what: 'the switch' });
    second.child.kill('SIGKILL');
    await second.ended;
  });

  const third = await runAdmin(url, ['rebuild', '--json']);
  assert.equal(third.status, 0, third.stderr);
  const report = JSON.parse(third.stdout.trimEnd().split('\n').at(-1) ?? '');
  assert.equal(report.ok, true);
  assert.equal(report.resumed, true);
  const changes = await log.database
    .selectFrom('admin_changes')
    .select(['position', 'actor', 'type', 'change'])
    .execute();
  const { from, position } = report;
  assert.ok(from >= reached.position);
  assert.deepEqual(changes, [
    {
      position: position + 1,
      actor: `cli:${userInfo().username}`,
      type: 'projections.rebuilt',
      change: { from, position, resumed: true },
    },
  ]);
  const verified = await runAdmin(url, ['verify']);
  assert.match(
    verified.stdout,
    /^no difference: \d+ tables and checks as of position \d+, [\d,]+ events projected anew\n$/,
  );
  assert.equal(verified.status, 0);
  assert.match(verified.stderr, /making the tables\n(?:.*\n)*\[#{24}\] 100 % .* events, .* records\/s/);
});

test('a reader that holds the tables keeps the switch waiting, but not the projection', async () => {
  const log = await TestLog.open(postgres);
  const busy = new BusyLog(log);
  await busy.feed(3);
  const readTables = async (trx: DatabaseTransaction) => {
    await sql`SELECT count(*) FROM connections`.execute(trx);
    return true;
  };
  const rebuild = startAdmin(postgres.url(), ['rebuild']);
  await whileHolding(log.database, readTables, async () => {
    await waitFor(() => waitsForLock(log.database), { timeoutMs: 30_000, what: 'the switch' });
    await busy.feed(2);
  });
  assert.equal((await rebuild.ended).status, 0);
  assert.equal((await runAdmin(postgres.url(), ['verify'])).status, 0);
});

test('verify names what differs, exits 1, and says how many more there are', async () => {
  const log = await TestLog.open(postgres);
  await new BusyLog(log).feed(3);
  await sql`UPDATE connection_failures SET reason = 'another'`.execute(log.database);
  const { status, stdout } = await runAdmin(postgres.url(), ['verify', '--limit', '2', '--json']);
  assert.equal(status, 1);
  const lines = stdout.trimEnd().split('\n');
  assert.match(lines[0] ?? '', /^connection_failures: position \d+: reason is another, rebuilt unknown token$/);
  assert.equal(lines[2], 'connection_failures: 7 more');
  assert.match(lines[3] ?? '', /^9 differences: /);
  assert.equal(JSON.parse(lines[4] ?? '').differences, 9);
});

test('a rebuild is discarded; an interrupted one is kept', async () => {
  const log = await TestLog.open(postgres);
  await new BusyLog(log).feed(3);
  const rebuild = startAdmin(postgres.url(), ['rebuild']);
  const readTables = async (trx: DatabaseTransaction) => {
    await sql`LOCK TABLE connections IN ACCESS SHARE MODE`.execute(trx);
    return true;
  };
  await whileHolding(log.database, readTables, async () => {
    await waitFor(() => waitsForLock(log.database), { timeoutMs: 30_000, what: 'the switch' });
    rebuild.child.kill('SIGINT');
    const { status, stderr } = await rebuild.ended;
    assert.equal(status, 130);
    assert.match(stderr, /masque-vpn admin: interrupted\n$/);
  });
  const discard = async () => (await runAdmin(postgres.url(), ['rebuild', '--discard'])).stdout;
  assert.equal(await discard(), 'schema "rebuild" is dropped\n');
  assert.equal(await discard(), 'there was nothing to discard\n');
});

test('who reads no further ends neither a rebuild nor a verification', async () => {
  const log = await TestLog.open(postgres);
  await new BusyLog(log).feed(3);
  for (const args of [['rebuild'], ['verify', '--json']]) {
    const { child, ended } = startAdmin(postgres.url(), args);
    child.stdout?.destroy();
    child.stderr?.destroy();
    assert.equal((await ended).status, 0);
  }
});

test('bad arguments and a bad variable name what is allowed and exit 2; --help needs no database', () => {
  const env = { DATABASE_URL: 'postgres://u:sesame@127.0.0.1:1/vpn' };
  for (const [args, line] of [
    [[], 'the command: got nothing, expected one of rebuild, verify, dead-letter'],
    [['rewind'], 'the command: got "rewind", expected one of rebuild, verify, dead-letter'],
    [['rebuild', '--limit', '3'], 'rebuild: got "--limit", expected --json, --discard, --help'],
    [['verify', '--limit', 'many'], '--limit: got "many", expected a whole number from 1 to 10000'],
    [['verify', 'twice'], 'verify: got "twice", expected no further argument'],
    [['dead-letter'], 'dead-letter: got nothing, expected list or retry'],
    [['dead-letter', 'retry'], 'dead-letter retry: got nothing, expected either ids or --all'],
    [['dead-letter', 'retry', 'x'], 'dead-letter retry: got "x", expected a whole number from 1 to'],
    [['dead-letter', 'list', '7'], 'dead-letter list: got "7", expected no further argument'],
    [['dead-letter', 'retry', '7', '--all'], 'dead-letter retry: got "--all 7", expected either ids or --all'],
    [['dead-letter', 'retry', '7', '--limit', '3'], 'dead-letter retry: got "--limit", expected --json, --all, --help'],
    [['verify', '--limit', '-1'], '--limit: got "-1", expected a whole number from 1 to 10000'],
    [['verify', '--limit'], '--limit: got nothing, expected a whole number from 1 to 10000'],
    [['verify', '--slowly'], 'arguments: got "--slowly", expected one of --json, --discard, --limit, --all, --help'],
  ] as const) {
    const { status, stdout, stderr } = runMain(ADMIN, env, args);
    assert.deepEqual([status, stdout], [EXIT_BAD_ARGUMENT, ''], stderr);
    assert.ok(stderr.startsWith(`masque-vpn admin: ${line}`), stderr);
    assert.match(stderr, /^[^\n]+; help: npm run admin -- --help\n$/);
  }
  assert.match(runMain(ADMIN, {}, ['verify']).stderr, /^masque-vpn admin: DATABASE_URL: got nothing, expected a URL/);
  assert.match(runMain(ADMIN, {}, ['--help']).stdout, /^usage: npm run admin -- COMMAND\n/);
});

test('without a database, or with another one, the message says so', async () => {
  const away = await runAdmin('postgres://u:sesame@127.0.0.1:1/vpn', ['verify']);
  assert.equal(away.status, 1);
  assert.equal(
    away.stderr,
    'masque-vpn admin: Postgres at DATABASE_URL is not reachable: connect ECONNREFUSED 127.0.0.1:1\n',
  );
  const empty = new URL(postgres.url());
  empty.pathname = '/postgres';
  const { status, stderr } = await runAdmin(empty.href, ['rebuild']);
  assert.equal(status, 1);
  assert.match(stderr, /^masque-vpn admin: the database lacks tables of this version/);
});

test('a database of an earlier or a later version is refused, with the migration that tells', async () => {
  const { database } = await TestLog.open(postgres);
  const verify = async () => {
    const { status, stderr } = await runAdmin(postgres.url(), ['verify']);
    return [status, stderr];
  };
  await sql`INSERT INTO kysely_migration VALUES ('9999-later', '')`.execute(database);
  const name = 'masque-vpn admin: the database';
  assert.deepEqual(await verify(), [1, `${name} is of another version (9999-later): use the commands of that one\n`]);
  await sql`DELETE FROM kysely_migration WHERE name IN ('9999-later', '0021-room-in-pages')`.execute(database);
  const lacks = 'lacks tables of this version (0021-room-in-pages); the control plane makes them when it starts';
  assert.deepEqual(await verify(), [1, `${name} ${lacks}\n`]);
});
