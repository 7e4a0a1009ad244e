import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { MOVED } from '../../../control-plane/projections/folded-rows.ts';
import { readPartitions } from '../../../control-plane/rebuild/partitions.ts';
import { rebuildProjections } from '../../../control-plane/rebuild/rebuild-projections.ts';
import { retentionService } from '../../../control-plane/retention/retention-service.ts';
import { recordedLast, retireOldestEvents } from '../../../control-plane/retention/retire-events.ts';
import { retireOldestTraffic } from '../../../control-plane/retention/retire-traffic.ts';
import type { Database } from '../../../control-plane/storage/database.ts';
import type { Term } from '../../../control-plane/storage/term.ts';
import { createLogger } from '../../../shared/log/logger.ts';
import { differencesOf } from '../../support/differences-of.ts';
import { waitFor } from '../../support/wait-for.ts';
import { ADMINISTRATOR, startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';
import { TestLog } from '../projector/test-log.ts';
import { BusyLog } from '../rebuild/busy-log.ts';

const PARTITION_SIZE = 100;
/** Later than all that was recorded until now. */
const afterAll = () => new Date(Date.now() + 60_000);

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(async () => postgres.stop());

/** A log of a few hundred events in partitions of a hundred; `fold` is what each delivery does of traffic. */
async function openShortPartitions(fold?: TestLog['fold']): Promise<{ log: TestLog; busy: BusyLog; term: Term }> {
  const log = await TestLog.open(postgres);
  if (fold) log.fold = fold;
  const { database } = log;
  await database.updateTable('log_keeping').set({ partition_size: PARTITION_SIZE, positions_ahead: 2_000 }).execute();
  for (const table of ['events', 'traffic'] as const) {
    for (const { name } of await readPartitions(database, 'public', table)) {
      await sql`DROP TABLE ${sql.table(name)}`.execute(database);
    }
  }
  await sql`SELECT ensure_event_partitions(0), ensure_traffic_partitions(0)`.execute(database);
  const busy = new BusyLog(log);
  await busy.feed(10);
  return { log, busy, term: { ownerEpoch: log.ownerEpoch, signal: new AbortController().signal } };
}

async function retireAll(database: Database, term: Term): Promise<{ events: number; traffic: number }> {
  let [events, traffic] = [0, 0];
  while ((await retireOldestTraffic(database, term, afterAll())) !== undefined) traffic++;
  while ((await retireOldestEvents(database, term, afterAll())) !== undefined) events++;
  return { events, traffic };
}

/** What is told of usage for ever. */
async function totalsOf(database: Database): Promise<unknown> {
  const { rows } = await sql<{ totals: unknown }>`
    SELECT jsonb_build_object(
      'usage', (SELECT jsonb_agg(u ORDER BY day, client_id, node) FROM usage_daily u),
      'hours', (SELECT jsonb_agg(h ORDER BY hour, client_id, node) FROM traffic_hourly h),
      'clients', (SELECT jsonb_agg(t ORDER BY client_id) FROM client_totals t),
      'counters', (SELECT jsonb_agg(c ORDER BY name, label) FROM event_counters c),
      'history', (SELECT jsonb_agg(h ORDER BY connection_id) FROM connection_history h)
    ) AS totals`.execute(database);
  return rows[0]?.totals;
}

/** What a table says that each client moved. */
async function movedIn(database: Database, table: 'traffic' | 'connections' | 'traffic_hourly' | 'traffic_daily') {
  const columns = sql.raw(MOVED.map((column) => `sum(${column})::bigint AS ${column}`).join(', '));
  const { rows } = await sql<Record<string, unknown>>`
    SELECT client_id, ${columns} FROM ${sql.table(table)} GROUP BY client_id HAVING sum(packets_in) > 0 ORDER BY client_id`.execute(
    database,
  );
  return rows;
}

/** The same of their totals. */
async function totalsOfClients(database: Database) {
  const { rows } = await sql<Record<string, unknown>>`
    SELECT client_id, bytes_received AS bytes_in, bytes_sent AS bytes_out, packets_received AS packets_in,
      packets_sent AS packets_out FROM client_totals WHERE packets_received > 0 ORDER BY client_id`.execute(database);
  return rows;
}

/** Until a statement that begins so waits for a lock. */
async function untilWaiting(database: Database, statement: string): Promise<void> {
  const isWaiting = async () => {
    const { rows } = await sql`
      SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
        AND ltrim(query, E' \\n') ILIKE ${`${statement}%`}`.execute(database);
    return rows.length > 0;
  };
  await waitFor(isWaiting, { timeoutMs: 10_000, what: `${statement} to wait` });
}

test('partitions are dropped whole, usage and totals stay, and what is rebuilt from the snapshot is the same', async () => {
  const { log, busy, term } = await openShortPartitions();
  const { database } = log;
  const totals = await totalsOf(database);
  assert.deepEqual(await retireAll(database, term), { events: 3, traffic: 3 });
  const [oldest] = await readPartitions(database, 'public', 'events');
  assert.equal(oldest?.from, 3 * PARTITION_SIZE);
  assert.deepEqual(await totalsOf(database), totals);
  assert.deepEqual(await differencesOf(database), []);
  const report = await rebuildProjections(database, ADMINISTRATOR);
  assert.equal(report.from, 3 * PARTITION_SIZE - 1);
  assert.deepEqual(await totalsOf(database), totals);
  assert.deepEqual(await differencesOf(database), []);

  await busy.feed(8);
  const more = await retireAll(database, term);
  assert.ok(more.events >= 2, `${more.events}`);
  assert.deepEqual(await differencesOf(database), []);
  await rebuildProjections(database, ADMINISTRATOR);
  assert.deepEqual(await differencesOf(database), []);
});

test('windows that are dropped from the live table only do not come back as differences', async () => {
  const { log, term } = await openShortPartitions();
  const totals = await totalsOf(log.database);
  while ((await retireOldestTraffic(log.database, term, afterAll())) !== undefined);
  assert.deepEqual(await differencesOf(log.database), []);
  await rebuildProjections(log.database, ADMINISTRATOR);
  assert.deepEqual(await totalsOf(log.database), totals);
});

test('traffic that nothing was added up of when its partition is due is added up before it is dropped', async () => {
  const { log, term } = await openShortPartitions(async () => undefined);
  const { database } = log;
  const moved = await movedIn(database, 'traffic');
  assert.deepEqual(await movedIn(database, 'traffic_hourly'), []);
  while ((await retireOldestTraffic(database, term, afterAll())) !== undefined);
  assert.notDeepEqual(await movedIn(database, 'traffic'), moved);
  for (const table of ['connections', 'traffic_hourly', 'traffic_daily'] as const) {
    assert.deepEqual(await movedIn(database, table), moved, table);
  }
  assert.deepEqual(await totalsOfClients(database), moved);
  assert.deepEqual(await differencesOf(database), []);
});

test('what is young, not whole, still to be rebuilt from, or of a leader of the past stays', async () => {
  const { log, term } = await openShortPartitions();
  const { database } = log;
  assert.equal(await retireOldestEvents(database, term, new Date(Date.now() - 60_000)), undefined);
  assert.equal(await retireOldestTraffic(database, term, new Date('2026-03-02T12:00:00.000Z')), undefined);
  await assert.rejects(rebuildProjections(database, ADMINISTRATOR, { signal: AbortSignal.abort() }), {
    name: 'AbortError',
  });
  assert.equal(await retireOldestEvents(database, term, afterAll()), undefined);
  await rebuildProjections(database, ADMINISTRATOR);
  const past: Term = { ...term, ownerEpoch: term.ownerEpoch - 1 };
  await assert.rejects(retireOldestEvents(database, past, afterAll()), { code: 'NOT_LEADER' });
  await assert.rejects(retireOldestTraffic(database, past, afterAll()), { code: 'NOT_LEADER' });
  assert.deepEqual(await differencesOf(database), []);
});

test('a window of a node whose clock was years ahead does not keep its partition, nor those behind it', async () => {
  const { log, term } = await openShortPartitions();
  const { database } = log;
  await sql`
    UPDATE traffic SET window_start = window_start + interval '70 years', window_end = window_end + interval '70 years'
    WHERE position = (SELECT min(position) FROM traffic)`.execute(database);
  assert.equal(await retireOldestTraffic(database, term, new Date(Date.now() - 60_000)), undefined, 'it is young');
  assert.notEqual(await retireOldestTraffic(database, term, afterAll()), undefined);
});

test('of what the log does not keep any more the windows say how old it is', async () => {
  const { log, term } = await openShortPartitions();
  const { database } = log;
  await retireOldestEvents(database, term, afterAll());
  await sql`
    UPDATE traffic SET window_end = window_end + interval '70 years' WHERE position = (SELECT min(position) FROM traffic)
    `.execute(database);
  assert.equal(await retireOldestTraffic(database, term, new Date('2026-03-02T12:00:00.000Z')), undefined);
  assert.notEqual(await retireOldestTraffic(database, term, afterAll()), undefined);
});

test('how old a partition is takes a look at its last event, not at all of it', async () => {
  const { log } = await openShortPartitions();
  const [oldest] = await readPartitions(log.database, 'public', 'events');
  const question = recordedLast(oldest?.name ?? '');
  const { rows } = await sql<Record<string, string>>`EXPLAIN ${question}`.execute(log.database);
  const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
  assert.match(plan, /Index Scan Backward/);
  assert.doesNotMatch(plan, /Seq Scan|Sort/);
});

test('a leader of the past makes neither a snapshot nor partitions', async () => {
  const { log, term } = await openShortPartitions();
  const { database } = log;
  const past: Term = { ...term, ownerEpoch: term.ownerEpoch - 1 };
  await assert.rejects(retireOldestEvents(database, past, afterAll()), { code: 'NOT_LEADER' });
  assert.deepEqual(await database.selectFrom('projection_copies').selectAll().execute(), []);
  const { rows } = await sql`SELECT FROM pg_namespace WHERE nspname = 'snapshot'`.execute(database);
  assert.deepEqual(rows, []);
  const partitions = async () => (await readPartitions(database, 'public', 'events')).length;
  const before = await partitions();
  await database.updateTable('log_keeping').set({ positions_ahead: 5_000 }).execute();
  const service = retentionService(database, { eventsDays: 0, trafficDays: 0 }, createLogger('test', 'silent'));
  await assert.rejects(service.run(past), { code: 'NOT_LEADER' });
  assert.equal(await partitions(), before);
});

test('events are kept for a rebuild that begins while the snapshot moves over them', async () => {
  const { log, term } = await openShortPartitions();
  const { database } = log;
  await retireOldestEvents(database, term, afterAll());
  const holder = await database.startTransaction().execute();
  await sql`SELECT FROM projection_copies FOR UPDATE`.execute(holder);
  const retiring = retireOldestEvents(database, term, afterAll());
  await untilWaiting(database, 'UPDATE "projection_copies"');
  await assert.rejects(rebuildProjections(database, ADMINISTRATOR, { signal: AbortSignal.abort() }), {
    name: 'AbortError',
  });
  await holder.rollback().execute();
  assert.equal(await retiring, undefined);
  assert.equal((await readPartitions(database, 'public', 'events'))[0]?.from, PARTITION_SIZE);
  const report = await rebuildProjections(database, ADMINISTRATOR);
  assert.deepEqual([report.resumed, report.from], [true, PARTITION_SIZE - 1]);
  assert.deepEqual(await differencesOf(database), []);
  assert.notEqual(await retireOldestEvents(database, term, afterAll()), undefined);
});

test('events are kept for a rebuild that has read where the snapshot is, and not said so yet', async () => {
  const { log, term } = await openShortPartitions();
  const { database } = log;
  await retireOldestEvents(database, term, afterAll());
  const holder = await database.startTransaction().execute();
  await sql`CREATE SCHEMA rebuild`.execute(holder);
  const rebuilding = rebuildProjections(database, ADMINISTRATOR, { signal: AbortSignal.abort() });
  await untilWaiting(database, 'CREATE SCHEMA "rebuild"');
  await assert.rejects(
    retireOldestEvents(database, term, afterAll()),
    { code: '55P03' },
    'it waits for what the rebuild says',
  );
  await holder.rollback().execute();
  await assert.rejects(rebuilding, { name: 'AbortError' });
  assert.equal(await retireOldestEvents(database, term, afterAll()), undefined);
  const report = await rebuildProjections(database, ADMINISTRATOR);
  assert.deepEqual([report.resumed, report.from], [true, PARTITION_SIZE - 1]);
  assert.deepEqual(await differencesOf(database), []);
});

test('a rebuild that was forgotten until its events were dropped begins anew from the snapshot', async () => {
  const { log, term } = await openShortPartitions();
  const { database } = log;
  await assert.rejects(rebuildProjections(database, ADMINISTRATOR, { signal: AbortSignal.abort() }), {
    name: 'AbortError',
  });
  await sql`UPDATE projection_copies SET updated_at = now() - interval '2 days'`.execute(database);
  await retireAll(database, term);
  const report = await rebuildProjections(database, ADMINISTRATOR);
  assert.deepEqual([report.resumed, report.from], [false, 3 * PARTITION_SIZE - 1]);
  assert.deepEqual(await differencesOf(database), []);
});

test('a snapshot that a crash left between two partitions is a place to rebuild from', async () => {
  const { log, term } = await openShortPartitions();
  const { database } = log;
  await retireOldestEvents(database, term, afterAll());
  // A reader of the log keeps the partition from being dropped when the snapshot has moved over it.
  const reader = await database.startTransaction().execute();
  await sql`SELECT count(*) FROM events`.execute(reader);
  await assert.rejects(retireOldestEvents(database, term, afterAll()), { code: '55P03' });
  await reader.rollback().execute();
  const { position } = await database.selectFrom('projection_copies').select('position').executeTakeFirstOrThrow();
  assert.equal(position, 2 * PARTITION_SIZE - 1);
  assert.deepEqual(await differencesOf(database), []);
  await rebuildProjections(database, ADMINISTRATOR);
  assert.deepEqual(await differencesOf(database), []);
  assert.notEqual(await retireOldestEvents(database, term, afterAll()), undefined);
});

test('the leader drops what is older than the days that it is kept, and makes partitions ahead', async () => {
  const { log } = await openShortPartitions();
  const { database } = log;
  await sql`UPDATE events SET recorded_at = recorded_at - interval '3 days' WHERE position < 150`.execute(database);
  const leading = new AbortController();
  const service = retentionService(database, { eventsDays: 2, trafficDays: 0 }, createLogger('test', 'silent'));
  const running = service.run({ ownerEpoch: log.ownerEpoch, signal: leading.signal });
  const oldest = async () => (await readPartitions(database, 'public', 'events'))[0]?.from;
  await waitFor(async () => (await oldest()) === PARTITION_SIZE, {
    timeoutMs: 20_000,
    what: 'the first partition to go',
  });
  leading.abort();
  await running;
  assert.equal((await readPartitions(database, 'public', 'traffic'))[0]?.from, 0);
  assert.ok(((await readPartitions(database, 'public', 'events')).at(-1)?.to ?? 0) > 2_300);
});
