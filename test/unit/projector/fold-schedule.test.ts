import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FOLD_SLICES } from '../../../control-plane/projections/unfolded-traffic.ts';
import { FoldSchedule, type TrafficFolds } from '../../../control-plane/projector/fold-schedule.ts';
import type { DatabaseTransaction } from '../../../control-plane/storage/database.ts';

/** What every fold costs, whatever it has to do. */
const STATEMENT_MS = 3;

/** Rows of traffic, a clock, and folds that take time of it. */
class World implements TrafficFolds {
  readonly traffic = { rowsWritten: 0 };
  nowMs = 0;
  folding = { ms: 0, folds: 0, longestMs: 0 };
  /** Sizes of the slices of the round that is under way, and rows that came later. */
  private round: number[] = [];
  private later: number;
  private readonly schedule: FoldSchedule;
  readonly msPerRow: number;
  /** What the next fold takes beyond its due. */
  hiccupMs = 0;

  constructor(msPerRow: number, unfolded = 0) {
    this.msPerRow = msPerRow;
    this.later = unfolded;
    this.schedule = new FoldSchedule(this, this, () => this.nowMs);
  }

  get unfolded(): number {
    return this.round.reduce((sum, rows) => sum + rows, this.later);
  }

  get isBehind(): boolean {
    return this.schedule.isBehind();
  }

  /** A batch that writes rows of traffic, after other work. */
  async batch(rows: number, otherMs: number): Promise<void> {
    this.nowMs += otherMs;
    this.traffic.rowsWritten += rows;
    this.later += rows;
    await this.run(false);
  }

  async run(isIdle: boolean): Promise<void> {
    await this.schedule.run(undefined as unknown as DatabaseTransaction, isIdle);
  }

  async countUnfolded() {
    return { rows: this.unfolded, slices: this.round.length || FOLD_SLICES };
  }

  async foldTraffic(): Promise<number> {
    const rows = this.unfolded;
    [this.round, this.later] = [[], 0];
    return this.take(rows);
  }

  async foldSlices(_trx: DatabaseTransaction, count: number): Promise<number> {
    if (this.round.length === 0) {
      const each = Math.floor(this.later / FOLD_SLICES);
      this.round = Array.from({ length: FOLD_SLICES }, (_, i) => each + (i < this.later % FOLD_SLICES ? 1 : 0));
      this.later = 0;
    }
    return this.take(this.round.splice(0, count).reduce((sum, rows) => sum + rows, 0));
  }

  private take(rows: number): number {
    const ms = STATEMENT_MS + rows * this.msPerRow + this.hiccupMs;
    this.hiccupMs = 0;
    this.nowMs += ms;
    const { folding } = this;
    this.folding = { ms: folding.ms + ms, folds: folding.folds + 1, longestMs: Math.max(folding.longestMs, ms) };
    return rows;
  }
}

test('under light load every batch folds what it brings', async () => {
  const world = new World(0.02);
  assert.ok(world.isBehind, 'nobody knows before it is counted');
  for (let i = 0; i < 100; i++) {
    await world.batch(100, 100);
    assert.equal(world.unfolded, 0, `after batch ${i}`);
    assert.ok(!world.isBehind);
  }
});

test('a batch without traffic folds nothing, and costs nothing', async () => {
  const world = new World(0.02);
  for (let i = 0; i < 10; i++) await world.batch(0, 50);
  assert.equal(world.folding.folds, 0);
});

test('under load it is put off: folds take a tenth of the time, and no batch waits long for one', async () => {
  const world = new World(0.02);
  const batches = 500;
  for (let i = 0; i < batches; i++) await world.batch(1_000, 50);
  const { ms, folds, longestMs } = world.folding;
  assert.ok(ms / world.nowMs < 0.12, `${ms} ms of ${world.nowMs}`);
  assert.ok(folds > 0 && folds < batches / 5, `${folds} folds`);
  assert.ok(longestMs < 250, `a batch waited ${longestMs} ms`);
  assert.ok(world.isBehind);
});

test('put off for ever it is not: what waits stays bounded, with folds that are as short as ever', async () => {
  const world = new World(0.01);
  let most = 0;
  for (let i = 0; i < 3_000; i++) {
    await world.batch(2_000, 50);
    most = Math.max(most, world.unfolded);
  }
  assert.ok(most > 900_000 && most < 1_100_000, `${most} rows waited`);
  assert.ok(world.folding.longestMs < 250, `a batch waited ${world.folding.longestMs} ms`);
});

test('when there is nothing else to do it catches up, step by step', async () => {
  const world = new World(0.02, 500_000);
  await world.run(true);
  assert.ok(world.isBehind);
  const steps = 500_000 * world.msPerRow * (1 / 100);
  for (let i = 0; world.isBehind; i++) {
    assert.ok(i < steps, `${world.unfolded} rows wait after ${i} steps`);
    world.nowMs += 100;
    await world.run(true);
  }
  assert.equal(world.unfolded, 0);
  // Before the first measurement a row is thought to cost more than it does.
  assert.ok(world.folding.longestMs < 250, `a step took ${world.folding.longestMs} ms`);
});

test('one fold that takes long, for a reason that is not its own, does not put off the next ones for long', async () => {
  const world = new World(0.02);
  for (let i = 0; i < 50; i++) await world.batch(50, 50);
  world.hiccupMs = 10_000;
  await world.batch(50, 50);
  const since = world.nowMs;
  while (world.isBehind || world.nowMs === since) {
    await world.batch(50, 50);
    assert.ok(world.nowMs < since + 10_000, `${world.unfolded} rows wait 10 s later`);
  }
});

test('what others have folded meanwhile is noticed', async () => {
  const world = new World(0.02);
  for (let i = 0; i < 500; i++) await world.batch(1_000, 50);
  assert.ok(world.unfolded > 100_000);
  await world.foldTraffic();
  const { folds } = world.folding;
  for (let i = 0; world.isBehind; i++) {
    assert.ok(i < 2 * FOLD_SLICES, `it folds nothing for the ${i}th time`);
    world.nowMs += 100;
    await world.run(true);
  }
  assert.ok(world.folding.folds > folds);
});
