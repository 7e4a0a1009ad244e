import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { sql } from 'kysely';
import type { LogEntry } from '../../../control-plane/log/log-entry.ts';
import { updateClientSeries } from '../../../control-plane/metrics/client-series.ts';
import { SnapshotReader } from '../../../control-plane/metrics/read-snapshot.ts';
import { divideSums, foldSlices, foldSums, foldTraffic } from '../../../control-plane/projections/fold-traffic.ts';
import { bucketOf, LATENCY_MS_BOUNDS } from '../../../control-plane/projections/histogram-buckets.ts';
import { projectEntries } from '../../../control-plane/projections/project-entries.ts';
import { ProjectionMemory } from '../../../control-plane/projections/projection-memory.ts';
import { FOLD_SLICES } from '../../../control-plane/projections/unfolded-traffic.ts';
import { FoldSchedule } from '../../../control-plane/projector/fold-schedule.ts';
import type { Database } from '../../../control-plane/storage/database.ts';
import type { VpnEvent } from '../../../shared/events/envelope.ts';
import {
  closed,
  connectionOf,
  established,
  SampleNode,
  sampled,
  totals,
} from '../../unit/projections/sample-events.ts';
import { everything, startTestPostgres, type TestPostgres } from './projector-database.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(async () => postgres.stop());

/** Noon to midnight. */
const TO_MIDNIGHT = 12 * 3600;

/** Projects events in one transaction for each array, and folds only when it is told to. */
class Projection {
  readonly database: Database;
  private readonly memory: ProjectionMemory | undefined;
  private position = 0;

  private constructor(database: Database, memory: ProjectionMemory | undefined) {
    this.database = database;
    this.memory = memory;
  }

  static async open(memory?: ProjectionMemory): Promise<Projection> {
    return new Projection(await postgres.database(), memory);
  }

  async project(...batches: ReadonlyArray<readonly VpnEvent[]>): Promise<void> {
    for (const events of batches) {
      const entries = events.map((event): LogEntry => ({ position: ++this.position, streamSeq: null, event }));
      await this.database.transaction().execute((trx) => projectEntries(trx, entries, this.memory));
    }
  }

  fold(): Promise<number> {
    return this.database.transaction().execute((trx) => foldTraffic(trx));
  }

  /** Folds what the memory has summed, and begins anew. */
  async foldSums(): Promise<number> {
    const { sums } = this.memory!.traffic;
    const folded = await this.database
      .transaction()
      .execute(async (trx) => foldSums(trx, await divideSums(trx, sums), FOLD_SLICES));
    sums.begin(sums.position);
    return folded;
  }

  async connection(connectionId: string) {
    const query = this.database.selectFrom('connections').selectAll().where('connection_id', '=', connectionId);
    return await query.executeTakeFirstOrThrow();
  }
}

/** Windows before and after the end, over midnight, with latencies at and beside the bounds of buckets. */
function events(): VpnEvent[] {
  const node = new SampleNode('node-a');
  const [alice, bob] = [connectionOf('alice'), connectionOf('bob')];
  const latency = (value: number) => ({ p50: value, p95: value + 0.25, p99: value * 2 });
  return [
    node.started(0),
    established(node, alice, 1),
    established(node, bob, 1),
    ...LATENCY_MS_BOUNDS.map((bound, i) =>
      sampled(node, TO_MIDNIGHT - 40 + 5 * i, [
        { ...alice, traffic: totals(1000 + i, 7), latencyMs: latency(bound) },
        { ...bob, traffic: totals(3, 5000 - i) },
      ]),
    ),
    closed(node, alice, TO_MIDNIGHT + 60, totals(30_000, 100)),
    sampled(node, TO_MIDNIGHT + 61, [{ ...alice, traffic: totals(5_000, 1), latencyMs: latency(3.3) }]),
    sampled(node, TO_MIDNIGHT + 66, [{ ...alice, traffic: totals(50_000, 1) }]),
  ];
}

test('however events are cut into transactions and folds, with a memory or without, the rows are the same', async () => {
  const all = events();
  const whole = await Projection.open();
  await whole.project(all);
  assert.equal(await whole.fold(), LATENCY_MS_BOUNDS.length * 2 + 3);
  const expected = await everything(whole.database);

  const single = await Projection.open(new ProjectionMemory());
  for (const event of all) {
    await single.project([event]);
    await single.fold();
  }
  assert.deepEqual(await everything(single.database), expected);

  for (const memory of [undefined, new ProjectionMemory()]) {
    const lazy = await Projection.open(memory);
    await lazy.project(...all.map((event) => [event]));
    await lazy.fold();
    assert.equal(await lazy.fold(), 0, 'each row once');
    assert.deepEqual(await everything(lazy.database), expected);
  }
});

test('rows that were summed when they were written fold into the same as those that are read again', async () => {
  const all = events();
  const read = await Projection.open();
  await read.project(all);
  await read.fold();
  const expected = await everything(read.database);

  for (const size of [1, 4, all.length]) {
    const memory = new ProjectionMemory();
    memory.traffic.sums.begin(0);
    const summed = await Projection.open(memory);
    let rows = 0;
    for (let i = 0; i < all.length; i += size) {
      await summed.project(all.slice(i, i + size));
      if (memory.traffic.sums.rows > 0) rows += await summed.foldSums();
    }
    assert.equal(rows, LATENCY_MS_BOUNDS.length * 2 + 3);
    assert.equal(await summed.fold(), 0, 'nothing is left');
    assert.deepEqual(await everything(summed.database), expected, `folded after each ${size} events`);
  }
});

test('any windows, in any order of time, are summed as Postgres would', async () => {
  const node = new SampleNode('node-a');
  const connections = ['alice', 'bob', 'carol'].map((clientId) => connectionOf(clientId));
  const us = fc.integer({ min: 0, max: 9_000_000_000 }).map((value) => value / 1000);
  const count = fc.maxSafeNat().map((value) => Math.floor(value / 1_000));
  const sample = fc.record({
    connection: fc.constantFrom(...connections),
    traffic: fc.record({ bytesIn: count, bytesOut: count, packetsIn: count, packetsOut: count }),
    latencyMs: fc.option(fc.record({ p50: us, p95: us, p99: us })),
  });
  const window = fc.record({
    at: fc.integer({ min: 1, max: 3 * 24 * 3600 }),
    samples: fc.uniqueArray(sample, { selector: ({ connection }) => connection.clientId, minLength: 1, maxLength: 3 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(window, { minLength: 1, maxLength: 12 }), async (windows) => {
      const all = [
        ...connections.map((connection) => established(node, connection, 0)),
        ...windows.map(({ at, samples }) =>
          sampled(
            node,
            at,
            samples.map(({ connection, traffic, latencyMs }) => ({ ...connection, traffic, latencyMs })),
          ),
        ),
      ];
      const memory = new ProjectionMemory();
      memory.traffic.sums.begin(0);
      const [read, summed] = [await Projection.open(), await Projection.open(memory)];
      await read.project(all);
      await summed.project(all);
      assert.equal(await read.fold(), await summed.foldSums());
      assert.deepEqual(await everything(summed.database), await everything(read.database));
    }),
    { numRuns: 15 },
  );
});

test('traffic rows, connections, clients, hours and days add up to the same, late windows included', async () => {
  const projection = await Projection.open(new ProjectionMemory());
  const all = events();
  await projection.project(all.slice(0, 9), all.slice(9));
  await projection.fold();
  const { rows } = await sql<Record<string, string>>`
    SELECT (SELECT sum(bytes_in) FROM traffic) AS traffic, (SELECT sum(bytes_in) FROM connections) AS connections,
      (SELECT sum(bytes_received) FROM client_totals) AS clients, (SELECT sum(bytes_in) FROM traffic_hourly) AS hours,
      (SELECT sum(bytes_received) FROM usage_daily) AS days`.execute(projection.database);
  const [sums] = rows;
  const sampledIn = LATENCY_MS_BOUNDS.reduce((sum, _, i) => sum + 1000 + i, 0);
  const bob = LATENCY_MS_BOUNDS.length * 3;
  const expected = String(sampledIn + 5_000 + 50_000 + bob);
  const names = ['traffic', 'connections', 'clients', 'hours', 'days'];
  assert.deepEqual(sums, Object.fromEntries(names.map((name) => [name, expected])));
});

test('a connection counts once on each day on which it moved something', async () => {
  const projection = await Projection.open(new ProjectionMemory());
  for (const event of events()) {
    await projection.project([event]);
    await projection.fold();
  }
  const days = await projection.database
    .selectFrom('usage_daily')
    .selectAll()
    .orderBy('client_id')
    .orderBy('day')
    .execute();
  assert.deepEqual(
    days.map(({ day, client_id, connections }) => [day, client_id, connections]),
    [
      ['2026-03-02', 'alice', 1],
      ['2026-03-03', 'alice', 1],
      ['2026-03-02', 'bob', 1],
      ['2026-03-03', 'bob', 1],
    ],
  );
});

test('latencies fall into the buckets that bucketOf names', async () => {
  const projection = await Projection.open();
  const node = new SampleNode('node-a');
  const alice = connectionOf('alice');
  const values = [0, ...LATENCY_MS_BOUNDS.flatMap((bound) => [bound - 0.001, bound, bound + 0.001]), 1e9];
  await projection.project(
    values.map((p50, i) =>
      sampled(node, i, [{ ...alice, traffic: totals(1, 1), latencyMs: { p50, p95: p50, p99: p50 } }]),
    ),
  );
  await projection.fold();
  const expected = new Array<number>(LATENCY_MS_BOUNDS.length + 1).fill(0);
  for (const value of values) expected[bucketOf(LATENCY_MS_BOUNDS, value)]! += 1;
  const rows = await projection.database.selectFrom('client_histograms').select(['quantile', 'buckets']).execute();
  assert.deepEqual(
    rows.map(({ buckets }) => buckets),
    [expected, expected, expected],
  );
});

test('sums end at what their columns hold, and nothing stops', async () => {
  const projection = await Projection.open(new ProjectionMemory());
  const node = new SampleNode('node-a');
  const alice = connectionOf('alice');
  const most = Number.MAX_SAFE_INTEGER;
  const traffic = { bytesIn: most, bytesOut: most, packetsIn: most, packetsOut: most };
  await sql`
    INSERT INTO client_totals (client_id, bytes_sent, last_seen)
    VALUES ('alice', 9223372036854775807 - 5, now())`.execute(projection.database);
  for (const seconds of [1, 2, 3]) {
    await projection.project([sampled(node, seconds, [{ ...alice, traffic }])]);
    await projection.fold();
  }
  await projection.project([closed(node, alice, 4, traffic), sampled(node, 5, [{ ...alice, traffic }])]);
  await projection.fold();
  assert.equal((await projection.connection(alice.connectionId)).bytes_in, most);
  const { rows } = await sql`SELECT bytes_sent::text AS sent FROM client_totals`.execute(projection.database);
  assert.deepEqual(rows, [{ sent: '9223372036854775807' }]);
});

test('a fold in slices, with windows in between and a crash, comes to what one fold comes to', async () => {
  const node = new SampleNode('node-a');
  const connections = Array.from({ length: 40 }, (_, i) => connectionOf(`client-${i % 30}`));
  const latencyMs = { p50: 3, p95: 30, p99: 300 };
  const windows = (seconds: number) =>
    sampled(
      node,
      seconds,
      connections.map((connection, i) => ({ ...connection, traffic: totals(1000 + i, 50 * i), latencyMs })),
    );
  const first = [
    node.started(0),
    ...connections.map((connection) => established(node, connection, 1)),
    windows(6),
    windows(TO_MIDNIGHT + 5),
  ];
  const second = [windows(TO_MIDNIGHT + 10), closed(node, connections[0]!, TO_MIDNIGHT + 11, totals(9000, 9000))];

  const whole = await Projection.open();
  await whole.project(first, second);
  await whole.fold();

  const sliced = await Projection.open();
  await sliced.project(first);
  const fold = (count: number) => sliced.database.transaction().execute((trx) => foldSlices(trx, count));
  await fold(10);
  const broken = sliced.database.transaction().execute(async (trx) => {
    await foldSlices(trx, 20);
    throw new Error('the leader died');
  });
  await assert.rejects(broken, /the leader died/);
  await fold(20);
  await sliced.project(second);
  let folded = await fold(34);
  assert.ok(folded > 0);
  for (folded = await fold(33); folded > 0; folded = await fold(33));
  assert.equal(await sliced.fold(), 0);
  assert.deepEqual(await everything(sliced.database), await everything(whole.database));
});

/** What happens to a leader that folds in parts, each of which is one slice. */
type Turn = 'batch' | 'idle' | 'failure' | 'forget' | 'takeover' | 'others';

test('rounds of sums that others, failures and takeovers interrupt come to what one fold comes to', async () => {
  const node = new SampleNode('node-a');
  const connections = Array.from({ length: 16 }, (_, i) => connectionOf(`client-${i % 12}`));
  const latencyMs = { p50: 3, p95: 30, p99: 300 };
  const window = (seconds: number) =>
    sampled(
      node,
      seconds,
      connections.map((connection, i) => ({ ...connection, traffic: totals(100 + i, 5 * i), latencyMs })),
    );
  let rounds = 0;
  const turn = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom<Turn>('batch', 'idle') },
    { weight: 1, arbitrary: fc.constantFrom<Turn>('failure', 'forget', 'takeover', 'others') },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(turn, { minLength: 20, maxLength: 40 }), async (turns) => {
      const whole = await Projection.open();
      const { database } = await Projection.open();
      const slow = slowClock();
      let memory = new ProjectionMemory();
      let schedule = new FoldSchedule(memory, undefined, slow);
      const events = [node.started(0), ...connections.map((connection) => established(node, connection, 1))];
      await whole.project(events);
      let position = 0;
      const commit = async (batch: readonly VpnEvent[], fails = false) => {
        const entries = batch.map((event, i): LogEntry => ({ position: position + i + 1, streamSeq: null, event }));
        const trx = await database.startTransaction().execute();
        await projectEntries(trx, entries, memory);
        await schedule.run(trx, batch.length === 0);
        await (fails ? trx.rollback() : trx.commit()).execute();
        if (fails) memory.forget();
        else position += batch.length;
      };
      await commit(events);
      for (const [i, turn] of turns.entries()) {
        const event = window(10 + i * 600);
        switch (turn) {
          case 'batch':
            await whole.project([event]);
            await commit([event]);
            break;
          case 'idle':
            await commit([]);
            break;
          case 'failure':
            await commit([event], true);
            break;
          case 'forget':
            memory.forget();
            break;
          case 'takeover':
            memory = new ProjectionMemory();
            schedule = new FoldSchedule(memory, undefined, slow);
            break;
          case 'others':
            await database.transaction().execute((trx) => foldTraffic(trx));
            break;
          default:
            turn satisfies never;
        }
        rounds += Number(memory.traffic.round !== undefined);
      }
      await database.transaction().execute((trx) => foldTraffic(trx));
      await whole.fold();
      assert.deepEqual(await everything(database), await everything(whole.database));
    }),
    { numRuns: 5 },
  );
  assert.ok(rounds > 0, 'none was under way between two transactions');
});

/** On which whatever is folded takes so long that the next part is a single slice. */
function slowClock(): () => number {
  let ms = 0;
  return () => (ms += 2_000);
}

test('one fold takes what slices have left', async () => {
  const node = new SampleNode('node-a');
  const connections = Array.from({ length: 20 }, (_, i) => connectionOf(`client-${i}`));
  const events = [
    ...connections.map((connection) => established(node, connection, 1)),
    sampled(
      node,
      6,
      connections.map((connection) => ({ ...connection, traffic: totals(1000, 2000) })),
    ),
  ];
  const projection = await Projection.open();
  await projection.project(events);
  const part = await projection.database.transaction().execute((trx) => foldSlices(trx, 32));
  assert.equal(part + (await projection.fold()), 20);
  assert.equal(await projection.fold(), 0);
  for (const { connectionId } of connections) {
    assert.equal((await projection.connection(connectionId)).sampled_bytes_in, 1000);
  }
});

test('metrics that were read before traffic was folded have it afterwards, though the log has not grown', async () => {
  const projection = await Projection.open();
  const { database } = projection;
  await projection.project(events());
  await updateClientSeries(database, { ownerEpoch: 0 }, 10);
  const reader = new SnapshotReader(database);
  const received = async () => {
    const { snapshot } = await reader.read();
    return snapshot.clients.map(({ bytesReceived }) => Number(bytesReceived));
  };
  assert.deepEqual(await received(), [0, 0]);
  await database.transaction().execute((trx) => foldSlices(trx, FOLD_SLICES / 2));
  await received();
  await database.transaction().execute((trx) => foldSlices(trx, FOLD_SLICES / 2));
  const { rows } = await sql<{ bytes: number }>`
    SELECT sum(bytes_in)::int AS bytes FROM traffic GROUP BY client_id ORDER BY client_id`.execute(database);
  assert.deepEqual(
    await received(),
    rows.map(({ bytes }) => bytes),
  );
});
