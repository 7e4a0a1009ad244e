import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { appendControlEvents } from '../../../control-plane/log/append-control-events.ts';
import { OTHER_TABLES, PROJECTION_TABLES } from '../../../control-plane/projections/projection-tables.ts';
import type { OnProgress } from '../../../control-plane/rebuild/progress.ts';
import { discardRebuild, rebuildProjections } from '../../../control-plane/rebuild/rebuild-projections.ts';
import { readDefinitions } from '../../../control-plane/rebuild/table-definitions.ts';
import { lockProjections } from '../../../control-plane/storage/projection-lock.ts';
import { errorCode } from '../../../shared/errors.ts';
import { differencesOf } from '../../support/differences-of.ts';
import { at, randomId } from '../../unit/projections/sample-events.ts';
import { breakProjection } from '../projector/break-projection.ts';
import { ADMINISTRATOR, startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';
import { TestLog } from '../projector/test-log.ts';
import { BusyLog } from './busy-log.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(async () => postgres.stop());

test('every table of the database is a projection or known not to be one', async () => {
  const database = await postgres.database();
  const { rows } = await sql<{ name: string }>`
    SELECT relname AS name FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
      AND relname NOT LIKE 'kysely_%' ORDER BY 1`.execute(database);
  const listed = [...PROJECTION_TABLES.map(({ name }) => name as string), ...OTHER_TABLES].sort();
  assert.deepEqual(
    rows.map(({ name }) => name),
    listed,
  );
});

test('what the list of projections names is there: keys, other columns, indexes', async () => {
  const definitions = await readDefinitions(await postgres.database());
  for (const { name, key, ignored = [], approximate = [], carried = [], deferred = [] } of PROJECTION_TABLES) {
    const definition = definitions.find((one) => one.name === name);
    assert.ok(definition, name);
    const columns = new Set(definition.columns.map((column) => column.name));
    for (const column of [...key, ...ignored, ...approximate, ...carried])
      assert.ok(columns.has(column), `${name}.${column}`);
    const indexes = new Set(definition.indexes.map((index) => index.name));
    for (const index of deferred) assert.ok(indexes.has(index), index);
  }
});

test('rebuilt tables say the same as the live ones, and look the same to Postgres', async () => {
  const log = await TestLog.open(postgres);
  await new BusyLog(log).feed(16);
  assert.deepEqual(await differencesOf(log.database), []);
  const definitions = await readDefinitions(log.database);
  await sql`DELETE FROM connections; UPDATE event_counters SET value = 7; TRUNCATE traffic, client_totals`.execute(
    log.database,
  );
  const report = await rebuildProjections(log.database, ADMINISTRATOR);
  assert.equal(report.from, 0);
  assert.deepEqual(await differencesOf(log.database), []);
  assert.deepEqual(await readDefinitions(log.database), definitions);
});

test('events are projected while the tables are rebuilt', async () => {
  const log = await TestLog.open(postgres);
  const busy = new BusyLog(log);
  await busy.feed(10);
  const { position: before } = await log.database
    .selectFrom('event_checkpoint')
    .select('position')
    .executeTakeFirstOrThrow();
  let rebuilt = false;
  const rebuilding = rebuildProjections(log.database, ADMINISTRATOR).finally(() => {
    rebuilt = true;
  });
  while (!rebuilt) await busy.feed(1);
  const { position } = await rebuilding;
  assert.ok(position > before, `the new tables took over at ${position}; before, the log ended at ${before}`);
  await busy.feed(2);
  assert.deepEqual(await differencesOf(log.database), []);
});

test('behind the switch the log says who had it done, and the live projection goes on', async () => {
  const log = await TestLog.open(postgres);
  const { database } = log;
  const busy = new BusyLog(log);
  await busy.feed(6);
  const changes = () => database.selectFrom('admin_changes').selectAll().orderBy('position').execute();
  const tables = async () => (await sql`SELECT 'connections'::regclass::oid AS id`.execute(database)).rows;
  const before = await tables();
  await assert.rejects(rebuildProjections(database, ADMINISTRATOR, { signal: AbortSignal.abort() }));
  const fix = await breakProjection(log, 'admin_events', 'true');
  await assert.rejects(rebuildProjections(database, ADMINISTRATOR), /a bug/);
  await fix();
  assert.deepEqual(await changes(), [], 'what is not in place changes nothing');
  assert.deepEqual(await tables(), before, 'nor are tables replaced without saying by whom');

  const { position: end } = await database.selectFrom('event_checkpoint').select('position').executeTakeFirstOrThrow();
  await rebuildProjections(database, ADMINISTRATOR);
  const [change, ...others] = await changes();
  assert.deepEqual(others, []);
  const { at, ...rest } = change!;
  assert.ok(at instanceof Date);
  assert.deepEqual(rest, {
    position: end + 1,
    actor: ADMINISTRATOR.actor,
    type: 'projections.rebuilt',
    subject_kind: 'projections',
    subject_id: '',
    change: { from: end, position: end, resumed: true },
  });
  const published = await database.selectFrom('outbox').select('position').orderBy('position').execute();
  assert.equal(published.at(-1)?.position, end + 1, 'for other readers of the stream');

  await busy.feed(2);
  assert.deepEqual(await differencesOf(database), []);
});

test('what was appended while the switch waited is before it in the log, and in what took over', async () => {
  const log = await TestLog.open(postgres);
  const { database, ownerEpoch } = log;
  const busy = new BusyLog(log);
  await busy.feed(2);
  await rebuildProjections(database, ADMINISTRATOR);
  const { position: end } = await database.selectFrom('event_checkpoint').select('position').executeTakeFirstOrThrow();

  const leader = await database.startTransaction().execute();
  await lockProjections(leader);
  const append = async () => {
    const data = { node: 'node-b', incarnation: ADMINISTRATOR.incarnation, lastSeenAt: null };
    await appendControlEvents(leader, { ownerEpoch, incarnation: randomId() }, [
      { type: 'node.lost', at: at(900), data },
    ]);
    await leader.commit().execute();
  };
  let appended: Promise<void> | undefined;
  const onProgress: OnProgress = ({ phase }) => {
    if (phase === 'switch') appended ??= append();
  };
  const bob = { ...ADMINISTRATOR, actor: 'cli:bob' };
  const report = await rebuildProjections(database, bob, { onProgress });
  await appended;
  assert.deepEqual([report.events, report.position], [end, end + 1]);
  const changes = await database
    .selectFrom('admin_changes')
    .select(['position', 'actor', 'change'])
    .orderBy('position')
    .execute();
  assert.deepEqual(changes, [
    { position: end, actor: ADMINISTRATOR.actor, change: { from: 0, position: end - 1, resumed: false } },
    { position: end + 2, actor: bob.actor, change: { from: 0, position: end + 1, resumed: false } },
  ]);
  await busy.feed(1);
  assert.deepEqual(await differencesOf(database), []);
});

test('views, functions, grants, comments and what metrics keep beside the totals survive a rebuild', async () => {
  const log = await TestLog.open(postgres);
  await new BusyLog(log).feed(6);
  const { database } = log;
  await sql`
    CREATE ROLE reader_of_rebuilt;
    CREATE VIEW public.open_connections WITH (security_barrier = true) AS
      SELECT connection_id, client_id FROM connections WHERE state <> 'closed';
    COMMENT ON VIEW open_connections IS 'Not closed.';
    CREATE FUNCTION count_open() RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT count(*) FROM open_connections; END;
    CREATE FUNCTION count_all() RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT count(*) FROM connections; END;
    GRANT SELECT ON open_connections, connections TO reader_of_rebuilt;
    GRANT SELECT (client_id) ON clients TO PUBLIC;
    UPDATE client_totals SET folded_bytes_sent = 5;
    UPDATE client_histograms SET folded_buckets = buckets, folded_count = 3`.execute(database);
  const read = async () => {
    const { rows } = await sql<{ state: unknown }>`
      SELECT jsonb_build_object(
        'open', (SELECT count(*) FROM open_connections), 'count_open', count_open(), 'count_all', count_all(),
        'history', (SELECT count(*) FROM connection_history),
        'options', (SELECT reloptions FROM pg_class WHERE relname = 'open_connections'),
        'comment', obj_description('open_connections'::regclass),
        'reader', has_table_privilege('reader_of_rebuilt', 'open_connections', 'select')
          AND has_table_privilege('reader_of_rebuilt', 'connections', 'select'),
        'everybody', has_column_privilege('reader_of_rebuilt', 'clients', 'client_id', 'select'),
        'folded', (SELECT jsonb_agg(t ORDER BY client_id) FROM client_totals t),
        'histograms', (SELECT jsonb_agg(folded_buckets ORDER BY client_id, family, quantile) FROM client_histograms)
      ) AS state`.execute(database);
    return rows[0]?.state;
  };
  const state = await read();
  await rebuildProjections(database, ADMINISTRATOR);
  assert.deepEqual(await read(), state);
  await assert.rejects(sql`DELETE FROM ip_ledger`.execute(database), /append-only/);
  const { rows } = await sql`SELECT FROM pg_namespace WHERE nspname IN ('rebuild', 'replaced')`.execute(database);
  assert.equal(rows.length, 0);
});

test('who owned the tables owns the new ones with their partitions and sequences, whoever rebuilds them', async () => {
  const log = await TestLog.open(postgres);
  const { database } = log;
  await new BusyLog(log).feed(1);
  await sql`CREATE ROLE keeper; GRANT CREATE ON SCHEMA public TO keeper`.execute(database);
  const kept = sql`
    relnamespace = 'public'::regnamespace AND relname ~ '^(traffic_[0-9]+|traffic|clients|ip_ledger)$' AND relkind IN ('r', 'p')`;
  const { rows } = await sql<{ relname: string }>`SELECT relname FROM pg_class WHERE ${kept}`.execute(database);
  assert.ok(rows.length > 4, 'with partitions');
  for (const { relname } of rows) await sql`ALTER TABLE ${sql.table(relname)} OWNER TO keeper`.execute(database);
  await rebuildProjections(database, ADMINISTRATOR);
  const others = await sql`
    SELECT relname FROM pg_class WHERE ${kept} AND relowner <> 'keeper'::regrole
    UNION ALL
    SELECT relname FROM pg_class WHERE relname = 'ip_ledger_id_seq' AND relowner <> 'keeper'::regrole`.execute(
    database,
  );
  assert.deepEqual(others.rows, []);
});

test('what cannot be moved to other tables is named before anything is rebuilt, and never falls with the former ones', async () => {
  const log = await TestLog.open(postgres);
  await new BusyLog(log).feed(1);
  for (const [make, unmake, name] of [
    ['CREATE TABLE notes (client_id text REFERENCES clients)', 'DROP TABLE notes', 'constraint notes_client_id_fkey'],
    [
      'CREATE MATERIALIZED VIEW mine AS SELECT * FROM clients',
      'DROP MATERIALIZED VIEW mine',
      'materialized view public.mine',
    ],
    [
      'CREATE PUBLICATION mine FOR TABLE clients',
      'DROP PUBLICATION mine',
      'the publication of table clients in publication mine',
    ],
    ['CREATE POLICY mine ON clients USING (true)', 'DROP POLICY mine ON clients', 'the policy mine on table clients'],
    ['CREATE TABLE notes (client clients)', 'DROP TABLE notes', 'the column client of table notes'],
    [
      "CREATE FUNCTION mine() RETURNS SETOF clients LANGUAGE sql AS 'SELECT * FROM clients'",
      'DROP FUNCTION mine',
      'the function mine()',
    ],
    ['CREATE VIEW mine AS SELECT c FROM clients c', 'DROP VIEW mine', 'the column c of view mine'],
  ] as const) {
    await sql.raw(make).execute(log.database);
    await assert.rejects(rebuildProjections(log.database, ADMINISTRATOR), {
      code: 'PROJECTION_COPY',
      message: `${name} depends on the live tables and cannot be moved to others`,
    });
    await sql.raw(unmake).execute(log.database);
  }
  assert.equal((await rebuildProjections(log.database, ADMINISTRATOR)).resumed, false);
});

test('what came to depend on the tables while they were rebuilt is named at the switch, and the rebuild goes on without it', async () => {
  const log = await TestLog.open(postgres);
  await new BusyLog(log).feed(1);
  const onProgress: OnProgress = ({ phase }) => {
    if (phase === 'index') made ??= sql`CREATE TABLE notes (client_id text REFERENCES clients)`.execute(log.database);
  };
  let made: Promise<unknown> | undefined;
  await assert.rejects(
    rebuildProjections(log.database, ADMINISTRATOR, { onProgress }),
    /: constraint notes_client_id_fkey depends/,
  );
  await made;
  await sql`DROP TABLE notes`.execute(log.database);
  assert.equal((await rebuildProjections(log.database, ADMINISTRATOR)).resumed, true);
});

test('former tables that somebody came to use are not dropped with what uses them', async () => {
  const log = await TestLog.open(postgres);
  await sql`CREATE SCHEMA replaced; CREATE TABLE replaced.clients (client_id text);
    CREATE VIEW mine AS SELECT * FROM replaced.clients`.execute(log.database);
  await assert.rejects(rebuildProjections(log.database, ADMINISTRATOR), { code: '2BP01' });
  await sql`SELECT FROM mine`.execute(log.database);
});

test('a half-done rebuild does not go on with tables of another shape, and can be discarded', async () => {
  const log = await TestLog.open(postgres);
  await new BusyLog(log).feed(1);
  const aborted = AbortSignal.abort();
  await assert.rejects(rebuildProjections(log.database, ADMINISTRATOR, { signal: aborted }), { name: 'AbortError' });
  await sql`ALTER TABLE nodes ADD COLUMN rack text`.execute(log.database);
  await assert.rejects(rebuildProjections(log.database, ADMINISTRATOR), { code: 'PROJECTION_COPY' });
  assert.equal(await discardRebuild(log.database), true);
  assert.equal(await discardRebuild(log.database), false);
  assert.equal((await rebuildProjections(log.database, ADMINISTRATOR)).resumed, false);
});

test('an event that the projections refuse stops the rebuild, which names it and leaves the live tables alone', async () => {
  const log = await TestLog.open(postgres);
  await new BusyLog(log).feed(3);
  const [event] = await log.database
    .updateTable('events')
    .set({ data: JSON.stringify({ connectionId: 'nobody' }) })
    .where('type', '=', 'connection.closed')
    .where('position', '>', 20)
    .where('position', '<', 30)
    .returning('position')
    .execute();
  await assert.rejects(rebuildProjections(log.database, ADMINISTRATOR), (error: Error) => {
    assert.equal(errorCode(error), 'UNPROJECTABLE_EVENT');
    assert.match(error.message, new RegExp(`^position ${event?.position}, connection.closed node-`));
    return true;
  });
});

test('two rebuilds at once: the second is refused', async () => {
  const log = await TestLog.open(postgres);
  await new BusyLog(log).feed(3);
  let second: Promise<unknown> | undefined;
  await rebuildProjections(log.database, ADMINISTRATOR, {
    onProgress: () => {
      second ??= assert.rejects(rebuildProjections(log.database, ADMINISTRATOR), { code: 'COPY_IN_USE' });
    },
  });
  await second;
});

test('a crash of Postgres in the middle: the next rebuild goes on', async () => {
  const log = await TestLog.open(postgres);
  await new BusyLog(log).feed(20);
  let crash: Promise<void> | undefined;
  const broken = rebuildProjections(log.database, ADMINISTRATOR, {
    onProgress: ({ phase }) => {
      if (phase === 'replay') crash ??= postgres.crash();
    },
  });
  await assert.rejects(broken);
  await crash;
  assert.equal((await rebuildProjections(log.database, ADMINISTRATOR)).resumed, true);
  assert.deepEqual(await differencesOf(log.database), []);
});
