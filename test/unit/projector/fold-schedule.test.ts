import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type SummedRow, TrafficSums } from '../../../control-plane/projections/traffic-sums.ts';
import { FOLD_SLICES, type TrafficFold } from '../../../control-plane/projections/unfolded-traffic.ts';
import { FoldSchedule, type TrafficFolds } from '../../../control-plane/projector/fold-schedule.ts';
import type { DatabaseTransaction } from '../../../control-plane/storage/database.ts';

/** What every fold costs, whatever it has to do. */
const STATEMENT_MS = 3;
const MS_PER_ROW = 0.005;
/** Of a row that is read and left. */
const MS_PER_ROW_LEFT = 0.0005;
const TRX = undefined as unknown as DatabaseTransaction;

/** Rows of traffic, one at each position, a clock, and folds that take time of it. */
class World implements TrafficFolds {
  readonly traffic = { sums: new TrafficSums() };
  nowMs = 0;
  folding = { ms: 0, folds: 0, longestMs: 0, rows: 0 };
  /** Of the newest row. */
  position: number;
  readonly connections: number;
  readonly msPerConnection: number;
  /** What the next fold takes beyond its due. */
  hiccupMs = 0;
  /** Whether rows can be summed. */
  isExact = true;
  /** How often the rows that wait were counted, which reads them. */
  counts = 0;
  private fold: TrafficFold = { position: 0, round_end: null, slices: 0 };
  private schedule: FoldSchedule;

  constructor({ connections = 100, msPerConnection = 0.02, unfolded = 0 } = {}) {
    this.connections = connections;
    this.msPerConnection = msPerConnection;
    this.position = unfolded;
    this.schedule = this.scheduleAnew();
  }

  get unfolded(): number {
    return this.unfoldedThrough(this.position);
  }

  get isBehind(): boolean {
    return this.schedule.isBehind();
  }

  /** A transaction has failed. */
  fail(): void {
    this.traffic.sums.forget();
    this.schedule = this.scheduleAnew();
  }

  /** Another process folds all there is. */
  foldElsewhere(): void {
    this.folding.rows += this.unfolded;
    this.fold = { position: this.position, round_end: null, slices: 0 };
  }

  /** A batch that writes rows of traffic, after other work. */
  async batch(rows: number, otherMs: number): Promise<void> {
    this.nowMs += otherMs;
    this.traffic.sums.add(this.write(rows));
    await this.run(false);
  }

  async run(isIdle: boolean): Promise<void> {
    await this.schedule.run(TRX, isIdle);
  }

  async readFold(): Promise<TrafficFold> {
    return this.fold;
  }

  async newestTraffic(_trx: DatabaseTransaction, position: number): Promise<number> {
    return Math.max(position, this.position);
  }

  async countUnfolded(_trx: DatabaseTransaction, _fold: TrafficFold, through: number): Promise<number> {
    this.counts += 1;
    return this.unfoldedThrough(through);
  }

  async foldTraffic(_trx: DatabaseTransaction, through: number): Promise<number> {
    const rows = this.unfoldedThrough(through);
    this.fold = { position: through, round_end: null, slices: 0 };
    return this.take(rows, rows * MS_PER_ROW);
  }

  async foldSlices(_trx: DatabaseTransaction, count: number, through: number): Promise<number> {
    const { position, slices, round_end } = this.fold;
    const end = round_end ?? through;
    const next = Math.min(slices + count, FOLD_SLICES);
    const upTo = (slice: number) => Math.floor(((end - position) * slice) / FOLD_SLICES);
    const rows = upTo(next) - upTo(slices);
    this.fold =
      next === FOLD_SLICES ? { position: end, round_end: null, slices: 0 } : { position, round_end: end, slices: next };
    return this.take(rows, rows * MS_PER_ROW + (end - position - rows) * MS_PER_ROW_LEFT);
  }

  async foldSums(_trx: DatabaseTransaction, sums: TrafficSums): Promise<number> {
    assert.equal(this.fold.position, sums.after, 'earlier rows are folded, and none of these');
    assert.equal(sums.rows, this.unfolded, 'the sums have all that is not folded');
    this.fold = { position: sums.position, round_end: null, slices: 0 };
    return this.take(sums.rows, sums.connections * this.msPerConnection);
  }

  private scheduleAnew(): FoldSchedule {
    return new FoldSchedule(this, this, () => this.nowMs);
  }

  private *write(rows: number): Generator<SummedRow> {
    const latencyMs = this.isExact ? null : ([0.0001, 1, 1] as const);
    const traffic = { bytesIn: 1, bytesOut: 1, packetsIn: 1, packetsOut: 1, latencyMs };
    for (let i = 0; i < rows; i++) {
      const connectionId = `connection-${++this.position % this.connections}`;
      const identity = { position: this.position, connectionId, clientId: 'alice', node: 'node-a' };
      yield { ...identity, kind: 'window', windowEnd: '2026-03-02T12:00:00.000Z', ...traffic };
    }
  }

  private unfoldedThrough(through: number): number {
    const { position, round_end, slices } = this.fold;
    const done = round_end === null ? 0 : Math.floor(((round_end - position) * slices) / FOLD_SLICES);
    return through - position - done;
  }

  private take(rows: number, costMs: number): number {
    const ms = STATEMENT_MS + costMs + this.hiccupMs;
    this.hiccupMs = 0;
    this.nowMs += ms;
    const { folding } = this;
    this.folding = {
      ms: folding.ms + ms,
      folds: folding.folds + 1,
      longestMs: Math.max(folding.longestMs, ms),
      rows: folding.rows + rows,
    };
    return rows;
  }
}

test('under light load every batch folds what it brings', async () => {
  const world = new World();
  assert.ok(world.isBehind, 'nobody knows before it is counted');
  for (let i = 0; i < 100; i++) {
    await world.batch(100, 200);
    assert.equal(world.unfolded, 0, `after batch ${i}`);
    assert.ok(!world.isBehind);
  }
});

test('a batch without traffic folds nothing, and costs nothing', async () => {
  const world = new World();
  for (let i = 0; i < 10; i++) await world.batch(0, 50);
  assert.equal(world.folding.folds, 0);
});

test('under load it is put off: folds take a twentieth of the time, and no batch waits long for one', async () => {
  const world = new World({ connections: 5_000 });
  const batches = 1_000;
  for (let i = 0; i < batches; i++) await world.batch(1_000, 50);
  const { ms, folds, longestMs } = world.folding;
  assert.ok(ms / world.nowMs < 0.07, `${ms} ms of ${world.nowMs}`);
  assert.ok(folds > 0 && folds < batches / 5, `${folds} folds`);
  assert.ok(longestMs < 250, `a batch waited ${longestMs} ms`);
  assert.ok(world.isBehind);
});

test('put off for ever it is not, even where one fold takes longer than there is time for', async () => {
  const world = new World({ connections: 50_000 });
  let most = 0;
  for (let i = 0; i < 2_000; i++) {
    await world.batch(1_000, 50);
    most = Math.max(most, world.unfolded);
  }
  assert.ok(most < 405_000, `${most} rows waited`);
  assert.ok(world.folding.ms / world.nowMs < 0.15, `${world.folding.ms} ms of ${world.nowMs}`);
});

test('rows that were there before are caught up with while others come: it ends, and no batch waits long', async () => {
  const world = new World({ connections: 5_000, unfolded: 1_000_000 });
  let batches = 0;
  // A round of many small parts, each of which reads all of it, took longer than the next round had to wait for.
  while (world.unfolded > 50_000) {
    await world.batch(1_000, 50);
    assert.ok(++batches < 500, `${world.unfolded} rows wait after ${batches} batches`);
  }
  assert.ok(world.folding.longestMs < 1_500, `a batch waited ${world.folding.longestMs} ms`);
});

test('rows that cannot be summed are folded from the table, without counting them again for each batch', async () => {
  const world = new World({ connections: 5_000 });
  world.isExact = false;
  let most = 0;
  for (let i = 0; i < 500; i++) {
    await world.batch(1_000, 50);
    most = Math.max(most, world.unfolded);
  }
  assert.ok(most < 405_000, `${most} rows waited`);
  assert.ok(world.counts < 50, `they were counted ${world.counts} times`);
});

test('when there is nothing else to do it catches up, step by step', async () => {
  const world = new World({ unfolded: 500_000 });
  await world.run(true);
  assert.ok(world.isBehind);
  for (let i = 0; world.isBehind; i++) {
    assert.ok(i < FOLD_SLICES, `${world.unfolded} rows wait after ${i} steps`);
    world.nowMs += 100;
    await world.run(true);
  }
  assert.equal(world.unfolded, 0);
});

test('one fold that takes long, for a reason that is not its own, does not put off the next ones for long', async () => {
  const world = new World();
  for (let i = 0; i < 50; i++) await world.batch(50, 50);
  world.hiccupMs = 10_000;
  await world.batch(50, 50);
  const since = world.nowMs;
  while (world.isBehind || world.nowMs === since) {
    await world.batch(50, 50);
    assert.ok(world.nowMs < since + 15_000, `${world.unfolded} rows wait 15 s later`);
  }
});

test('every row is folded once, whatever others fold meanwhile and whichever transactions fail', async () => {
  const world = new World({ connections: 5_000, unfolded: 100_000 });
  for (let i = 0; i < 600; i++) {
    await world.batch(1_000, 50);
    if (i % 70 === 30) world.foldElsewhere();
    if (i % 90 === 60) world.fail();
    world.isExact = i % 50 < 45;
  }
  for (let i = 0; world.isBehind; i++) {
    assert.ok(i < 2 * FOLD_SLICES, `${world.unfolded} rows wait after ${i} steps`);
    world.nowMs += 100;
    await world.run(true);
  }
  assert.equal(world.unfolded, 0);
  assert.equal(world.folding.rows, world.position);
});
