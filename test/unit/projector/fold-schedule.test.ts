import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SummedRound } from '../../../control-plane/projections/summed-round.ts';
import { TrafficMemory } from '../../../control-plane/projections/traffic-memory.ts';
import type { SummedRow, TrafficSums } from '../../../control-plane/projections/traffic-sums.ts';
import { FOLD_SLICES, foldedThrough, type TrafficFold } from '../../../control-plane/projections/unfolded-traffic.ts';
import { FoldSchedule, type TrafficFolds } from '../../../control-plane/projector/fold-schedule.ts';
import type { DatabaseTransaction } from '../../../control-plane/storage/database.ts';

/** What every fold costs, whatever it has to do. */
const STATEMENT_MS = 3;
const MS_PER_ROW = 0.005;
/** Of a row that is read and left. */
const MS_PER_ROW_LEFT = 0.0005;
const MAX_ROWS = 1_600_000;
const TRX = undefined as unknown as DatabaseTransaction;

/** Rows of traffic, one at each position, a clock, and folds that take time of it. */
class World implements TrafficFolds {
  readonly traffic = new TrafficMemory();
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
  private fold: TrafficFold = foldedThrough(0);
  private schedule: FoldSchedule;
  /** By position. */
  private readonly isFolded = new Uint8Array(MAX_ROWS);
  /** What a transaction that fails takes back. */
  private folded: number[] = [];

  constructor({ connections = 100, msPerConnection = 0.02, unfolded = 0 } = {}) {
    this.connections = connections;
    this.msPerConnection = msPerConnection;
    this.position = unfolded;
    this.schedule = this.scheduleAnew();
  }

  get unfolded(): number {
    return this.position - this.folding.rows;
  }

  get isBehind(): boolean {
    return this.schedule.isBehind();
  }

  /** Whether some slices of a round are folded, and others are not. */
  get isInRound(): boolean {
    return this.fold.slices > 0;
  }

  /** Something failed, or another leader took over: what was in memory is gone. */
  forget(): void {
    this.traffic.forget();
    this.schedule = this.scheduleAnew();
  }

  /** Another process folds all there is. */
  foldElsewhere(): void {
    this.take(this.fold, this.position);
    this.fold = foldedThrough(this.position);
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

  /** The same in a transaction that is rolled back. */
  async failingRun(): Promise<void> {
    const { fold } = this;
    this.folded = [];
    await this.run(false);
    for (const position of this.folded) this.isFolded[position] = 0;
    this.folding.rows -= this.folded.length;
    this.fold = fold;
    this.forget();
  }

  async readFold(): Promise<TrafficFold> {
    return this.fold;
  }

  async newestTraffic(_trx: DatabaseTransaction, position: number): Promise<number> {
    return Math.max(position, this.position);
  }

  async countUnfolded(_trx: DatabaseTransaction, fold: TrafficFold, through: number): Promise<number> {
    this.counts += 1;
    return [...unfoldedIn(fold, through, this.connections)].length;
  }

  async foldTraffic(_trx: DatabaseTransaction, through: number): Promise<number> {
    const rows = this.take(this.fold, through);
    this.fold = foldedThrough(through);
    return this.spend(rows, rows * MS_PER_ROW);
  }

  async foldSlices(_trx: DatabaseTransaction, count: number, through: number): Promise<number> {
    const { position, slices, round_end } = this.fold;
    const end = round_end ?? through;
    const next = Math.min(slices + count, FOLD_SLICES);
    const rows = this.take(this.fold, end, next);
    this.fold = next === FOLD_SLICES ? foldedThrough(end) : { position, round_end: end, slices: next };
    return this.spend(rows, rows * MS_PER_ROW + (end - position - rows) * MS_PER_ROW_LEFT);
  }

  async divideSums(_trx: DatabaseTransaction, sums: TrafficSums): Promise<SummedRound> {
    assert.equal(sums.rows, this.unfolded, 'the sums have all that is not folded');
    return new SummedRound(sums, (clientId) => Number(clientId));
  }

  async foldSums(_trx: DatabaseTransaction, round: SummedRound, count: number): Promise<number> {
    assert.ok(round.isAt(this.fold), 'earlier rows are folded, and none of these');
    const end = round.foldAtEnd.position;
    const rows = this.take({ ...this.fold, round_end: end }, end, this.fold.slices + count);
    const { hours } = round.take(count);
    this.fold = round.fold;
    const summed = hours.reduce((sum, hour) => sum + hour.rows, 0);
    assert.equal(summed, rows, 'the sums are those of the slices');
    return this.spend(rows, hours.length * this.msPerConnection);
  }

  private scheduleAnew(): FoldSchedule {
    return new FoldSchedule(this, this, () => this.nowMs);
  }

  private *write(rows: number): Generator<SummedRow> {
    const latencyMs = this.isExact ? null : ([0.0001, 1, 1] as const);
    const traffic = { bytesIn: 1, bytesOut: 1, packetsIn: 1, packetsOut: 1, latencyMs };
    for (let i = 0; i < rows; i++) {
      const position = ++this.position;
      const connectionId = `connection-${position % this.connections}`;
      const identity = {
        position,
        connectionId,
        clientId: String(sliceOf(position, this.connections)),
        node: 'node-a',
      };
      yield { ...identity, kind: 'window', windowEnd: '2026-03-02T12:00:00.000Z', ...traffic };
    }
  }

  /** Folds what a fold has left up to a position, of the slices before one of them; each row once. Returns how many they are. */
  private take(fold: TrafficFold, through: number, slice = FOLD_SLICES): number {
    let rows = 0;
    for (const position of unfoldedIn(fold, through, this.connections)) {
      if (sliceOf(position, this.connections) >= slice) continue;
      if (this.isFolded[position]) assert.fail(`row ${position} is folded again`);
      this.isFolded[position] = 1;
      this.folded.push(position);
      rows += 1;
    }
    this.folding.rows += rows;
    return rows;
  }

  private spend(rows: number, costMs: number): number {
    const ms = STATEMENT_MS + costMs + this.hiccupMs;
    this.hiccupMs = 0;
    this.nowMs += ms;
    this.folding.ms += ms;
    this.folding.folds += 1;
    this.folding.longestMs = Math.max(this.folding.longestMs, ms);
    return rows;
  }
}

/** Each connection is in one slice, as each client is. */
function sliceOf(position: number, connections: number): number {
  return (position % connections) % FOLD_SLICES;
}

function* unfoldedIn(fold: TrafficFold, through: number, connections: number): Generator<number> {
  for (let position = fold.position + 1; position <= through; position++) {
    const isInRound = fold.slices > 0 && position <= (fold.round_end ?? 0);
    if (!isInRound || sliceOf(position, connections) >= fold.slices) yield position;
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
  for (let i = 0; i < 1_000; i++) {
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

test('sums of very many connections are folded in parts, none of which takes long, and soon', async () => {
  const world = new World({ connections: 100_000, msPerConnection: 0.027 });
  let most = 0;
  for (let i = 0; i < 300; i++) {
    await world.batch(2_000, 100);
    if (i > 150) most = Math.max(most, world.unfolded);
  }
  const { ms, longestMs } = world.folding;
  assert.ok(longestMs < 250, `a batch waited ${longestMs} ms`);
  assert.ok(most < 400_000, `${most} rows waited`);
  assert.ok(ms / world.nowMs < 0.35, `${ms} ms of ${world.nowMs}`);
});

test('every row is folded once, whatever others fold meanwhile and whichever transactions fail', async () => {
  const world = new World({ connections: 20_000, msPerConnection: 0.05, unfolded: 100_000 });
  const interrupted = { byOthers: 0, byTakeover: 0, byFailure: 0 };
  for (let i = 0; i < 900; i++) {
    await world.batch(1_000, 50);
    if (i % 70 === 30) {
      interrupted.byOthers += Number(world.isInRound);
      world.foldElsewhere();
    }
    if (i % 90 === 60) {
      interrupted.byTakeover += Number(world.isInRound);
      world.forget();
    }
    if (i % 40 === 20) {
      interrupted.byFailure += Number(world.isInRound);
      await world.failingRun();
    }
    world.isExact = i % 150 < 145;
  }
  for (const [how, rounds] of Object.entries(interrupted)) assert.ok(rounds > 0, `no round was interrupted ${how}`);
  for (let i = 0; world.isBehind; i++) {
    assert.ok(i < 2 * FOLD_SLICES, `${world.unfolded} rows wait after ${i} steps`);
    world.nowMs += 100;
    await world.run(true);
  }
  assert.equal(world.unfolded, 0);
});
