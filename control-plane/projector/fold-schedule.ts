import { divideSums, foldSlices, foldSums, foldTraffic } from '../projections/fold-traffic.ts';
import type { SummedRound } from '../projections/summed-round.ts';
import type { TrafficMemory } from '../projections/traffic-memory.ts';
import type { TrafficSums } from '../projections/traffic-sums.ts';
import {
  FOLD_SLICES,
  isUnfolded,
  newestTraffic,
  readTrafficFold,
  type TrafficFold,
} from '../projections/unfolded-traffic.ts';
import type { DatabaseTransaction } from '../storage/database.ts';

// Ours, all of these.
/** The part of its time that the projector spends on folding while it has other work. */
const TIME_SHARE = 0.05;
/** Time that is saved up for a fold, and about what a part of one takes. */
const MAX_FOLD_MS = 200;
/** Sums wait about this long at most: those of tens of thousands of connections are given more than TIME_SHARE for that. */
const MAX_WAIT_MS = 15_000;
/** With this many rows behind, each batch folds some, whatever it costs: they take memory, and a new leader has to read through them. */
const MAX_UNFOLDED_ROWS = 400_000;
/** What a row of another part costs, which is read and left, of what one costs that is folded. */
const LEFT_SHARE = 0.1;
/** Each part reads all rows of the round: with more and smaller ones that would be most of the work, and a round would never end. */
const MIN_SLICES = FOLD_SLICES / 8;
/** Until the first measurement. */
const FIRST_MS_EACH = 0.1;
const STATEMENT_MS = 3;
/** The weight of a new measurement against the earlier ones. */
const SMOOTHING = 0.3;

/** How rows of traffic are folded. */
export interface TrafficFolds {
  readFold(trx: DatabaseTransaction): Promise<TrafficFold>;
  /** Position of the newest row behind `position`; that itself where there is none. */
  newestTraffic(trx: DatabaseTransaction, position: number): Promise<number>;
  /** How many rows up to `through` are not folded. */
  countUnfolded(trx: DatabaseTransaction, fold: TrafficFold, through: number): Promise<number>;
  /** All rows up to `through`; returns how many there were. */
  foldTraffic(trx: DatabaseTransaction, through: number): Promise<number>;
  /** Those of the next `count` of FOLD_SLICES parts. */
  foldSlices(trx: DatabaseTransaction, count: number, through: number): Promise<number>;
  /** Makes a round of all that are summed. */
  divideSums(trx: DatabaseTransaction, sums: TrafficSums): Promise<SummedRound>;
  /** Those of the next `count` slices of a round, once all earlier ones are folded. */
  foldSums(trx: DatabaseTransaction, round: SummedRound, count: number): Promise<number>;
}

/**
 * Decides when traffic is folded. While there is little of it, in the transaction that brings it, so that SQL and metrics are up to
 * date; under load many rows of a connection at once. What this process has written is summed already; what it finds, after a start or
 * a failure, is read. Both in parts, each of which is short. Belongs to one attempt to project: after a failure another one is made.
 */
export class FoldSchedule {
  private readonly memory: { readonly traffic: Pick<TrafficMemory, 'sums' | 'round'> };
  private readonly folds: TrafficFolds;
  private readonly now: () => number;
  /** Rows that are neither folded nor summed; undefined before they are counted. */
  private backlog: number | undefined;
  /** Rows of the round that is under way, those that are folded included. */
  private roundRows = 0;
  private msPerRow = FIRST_MS_EACH;
  private msPerConnection = FIRST_MS_EACH;
  private budgetMs = MAX_FOLD_MS;
  private lastAt: number;

  /** `now`: a monotonic clock, milliseconds. */
  constructor(memory: FoldSchedule['memory'], folds: TrafficFolds = IN_SQL, now = () => performance.now()) {
    this.memory = memory;
    this.folds = folds;
    this.now = now;
    this.lastAt = now();
  }

  isBehind(): boolean {
    const { sums, round } = this.memory.traffic;
    return this.backlog !== 0 || sums.rows > 0 || round !== undefined;
  }

  /** `isIdle`: there is nothing else to do. */
  async run(trx: DatabaseTransaction, isIdle: boolean): Promise<void> {
    const { traffic } = this.memory;
    const { sums } = traffic;
    const fold = await this.folds.readFold(trx);
    // Verification, retention and dead letters that are tried again fold all there is.
    if (traffic.round?.isAt(fold) === false) {
      traffic.round = undefined;
      this.backlog = undefined;
    }
    if (sums.after === undefined || fold.position > sums.after) {
      sums.begin(await this.folds.newestTraffic(trx, fold.position));
      this.backlog = undefined;
    } else if (!sums.isExact) {
      const { rows } = sums;
      sums.begin(sums.position);
      if (this.backlog !== undefined) this.backlog += rows;
    }
    const { round } = traffic;
    const through = sums.after as number;
    // Where there is a round, the backlog is what neither it nor the sums have.
    const before = round?.foldAtEnd ?? fold;
    const hasBacklog = before.position < through || before.slices > 0;
    this.backlog = hasBacklog ? (this.backlog ?? (await this.folds.countUnfolded(trx, before, through))) : 0;

    const startedAt = this.now();
    const waitingMs = (sums.size + (round?.sums() ?? 0)) * this.msPerConnection;
    const share = Math.max(TIME_SHARE, waitingMs / MAX_WAIT_MS);
    this.budgetMs = Math.min(MAX_FOLD_MS, this.budgetMs + (startedAt - this.lastAt) * share);
    this.lastAt = startedAt;
    const rows = this.backlog + (round?.rows ?? 0) + sums.rows;
    if (isIdle || rows > MAX_UNFOLDED_ROWS) this.budgetMs = MAX_FOLD_MS;
    if (round === undefined && hasBacklog) await this.foldBacklog(trx, fold, through);
    else await this.foldSummed(trx);
    // What took long for once, e.g. while the disk was busy, is no reason to let traffic wait for minutes.
    this.budgetMs = Math.max(this.budgetMs - (this.now() - startedAt), -MAX_FOLD_MS);
  }

  private async foldSummed(trx: DatabaseTransaction): Promise<void> {
    const { traffic } = this.memory;
    if (traffic.round === undefined) {
      const { sums } = traffic;
      if (sums.size === 0 || !this.affords(this.msOf(sums.size))) return;
      traffic.round = await this.folds.divideSums(trx, sums);
      sums.begin(sums.position);
    }
    const { round } = traffic;
    const slices = round.slicesWithin((MAX_FOLD_MS - STATEMENT_MS) / this.msPerConnection);
    const connections = round.sums(slices);
    if (!this.affords(this.msOf(connections))) return;
    const startedAt = this.now();
    await this.folds.foldSums(trx, round, slices);
    if (round.isTaken) traffic.round = undefined;
    if (connections > 0) this.msPerConnection = this.learn(this.msPerConnection, startedAt, connections);
  }

  private async foldBacklog(trx: DatabaseTransaction, fold: TrafficFold, through: number): Promise<void> {
    const backlog = this.backlog as number;
    const wholeMs = STATEMENT_MS + backlog * this.msPerRow;
    if (!this.affords(wholeMs)) return;
    if (fold.slices === 0 || this.roundRows === 0) this.roundRows = backlog;
    const startedAt = this.now();
    const isWhole = this.budgetMs >= wholeMs;
    const slices = this.slicesWithin(MAX_FOLD_MS);
    const folded = await (isWhole ? this.folds.foldTraffic(trx, through) : this.folds.foldSlices(trx, slices, through));
    const endsRound = fold.slices + slices >= FOLD_SLICES;
    // A round that another leader began ends earlier than the rows do.
    this.backlog = isWhole ? 0 : endsRound ? undefined : Math.max(1, backlog - folded);
    if (folded === 0) return;
    const left = isWhole ? 0 : Math.max(0, this.roundRows - folded);
    this.msPerRow = this.learn(this.msPerRow, startedAt, folded + LEFT_SHARE * left);
  }

  private msOf(connections: number): number {
    return STATEMENT_MS + connections * this.msPerConnection;
  }

  /** Whether there is time for what takes `ms`; with all the time that can be saved up there is for anything. */
  private affords(ms: number): boolean {
    return this.budgetMs >= Math.min(ms, MAX_FOLD_MS);
  }

  /** How many of the parts that are left can be folded at once in about this time. */
  private slicesWithin(ms: number): number {
    const readOnly = this.roundRows * LEFT_SHARE;
    const rows = ((ms - STATEMENT_MS) / this.msPerRow - readOnly) / (1 - LEFT_SHARE);
    return Math.max(MIN_SLICES, Math.floor((FOLD_SLICES * rows) / this.roundRows));
  }

  private learn(msEach: number, startedAt: number, count: number): number {
    const measured = Math.max(0, this.now() - startedAt - STATEMENT_MS) / count;
    return msEach + SMOOTHING * (measured - msEach);
  }
}

const IN_SQL: TrafficFolds = {
  readFold: readTrafficFold,
  newestTraffic,
  foldTraffic,
  foldSlices,
  divideSums,
  foldSums,
  async countUnfolded(trx, fold, through) {
    const { rows } = await trx
      .selectFrom('traffic')
      .select(({ fn }) => fn.countAll<number>().as('rows'))
      .where(isUnfolded(fold, through))
      .executeTakeFirstOrThrow();
    return rows;
  },
};
