import { foldSlices, foldTraffic } from '../projections/fold-traffic.ts';
import type { ProjectionMemory } from '../projections/projection-memory.ts';
import { FOLD_SLICES, isUnfolded, readTrafficFold } from '../projections/unfolded-traffic.ts';
import type { DatabaseTransaction } from '../storage/database.ts';

// Ours, all of these.
/** The part of its time that the projector spends on folding while it has other work. */
const TIME_SHARE = 0.1;
/** A batch that waits for a fold waits about this long at most. */
const MAX_FOLD_MS = 200;
/** With this many rows behind, each batch folds some, whatever it costs: a new leader has to read through them. */
const MAX_UNFOLDED_ROWS = 1_000_000;
/** Until the first measurement. */
const FIRST_MS_PER_ROW = 0.1;
const STATEMENT_MS = 3;
/** The weight of a new measurement against the earlier ones. */
const SMOOTHING = 0.3;

/** How rows of traffic are folded. */
export interface TrafficFolds {
  /** How many rows are not folded, and in how many of FOLD_SLICES parts those of the round are that is under way. */
  countUnfolded(trx: DatabaseTransaction): Promise<{ readonly rows: number; readonly slices: number }>;
  /** All of them; returns how many there were. */
  foldTraffic(trx: DatabaseTransaction): Promise<number>;
  /** Those of the next `count` of FOLD_SLICES parts. */
  foldSlices(trx: DatabaseTransaction, count: number): Promise<number>;
}

/**
 * Decides when traffic is folded. While there is little of it, in the transaction that brings it, so that SQL and metrics are
 * up to date; under load many rows of a connection at once, in parts, which costs a tenth as much. Belongs to one attempt to
 * project: after a failure another one is made.
 */
export class FoldSchedule {
  private readonly memory: { readonly traffic: Pick<ProjectionMemory['traffic'], 'rowsWritten'> };
  private readonly folds: TrafficFolds;
  private readonly now: () => number;
  /** Rows that are not folded; undefined before they are counted. */
  private unfolded: number | undefined;
  private slicesLeft = FOLD_SLICES;
  private rowsWritten = 0;
  private msPerRow = FIRST_MS_PER_ROW;
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
    return this.unfolded !== 0;
  }

  /** `isIdle`: there is nothing else to do. */
  async run(trx: DatabaseTransaction, isIdle: boolean): Promise<void> {
    const unfolded = await this.count(trx);
    const startedAt = this.now();
    this.budgetMs = Math.min(MAX_FOLD_MS, this.budgetMs + (startedAt - this.lastAt) * TIME_SHARE);
    this.lastAt = startedAt;
    if (isIdle || unfolded > MAX_UNFOLDED_ROWS) this.budgetMs = MAX_FOLD_MS;
    const wholeMs = STATEMENT_MS + unfolded * this.msPerRow;
    if (unfolded === 0 || (this.budgetMs < wholeMs && this.budgetMs < MAX_FOLD_MS)) return;
    const slices = Math.max(1, Math.floor((this.slicesLeft * MAX_FOLD_MS) / wholeMs));
    const isWhole = this.budgetMs >= wholeMs;
    const folded = await (isWhole ? this.folds.foldTraffic(trx) : this.folds.foldSlices(trx, slices));
    const tookMs = this.now() - startedAt;
    // What took long for once, e.g. while the disk was busy, is no reason to let traffic wait for minutes.
    this.budgetMs = Math.max(this.budgetMs - tookMs, -MAX_FOLD_MS);
    const endsRound = slices >= this.slicesLeft;
    this.slicesLeft = isWhole || endsRound ? FOLD_SLICES : this.slicesLeft - slices;
    // Verification and retention fold as well: after a round it is counted what is left.
    this.unfolded = isWhole ? 0 : endsRound ? undefined : Math.max(1, unfolded - folded);
    if (folded === 0) return;
    const measured = Math.max(0, tookMs - STATEMENT_MS) / folded;
    this.msPerRow += SMOOTHING * (measured - this.msPerRow);
  }

  private async count(trx: DatabaseTransaction): Promise<number> {
    const { rowsWritten } = this.memory.traffic;
    if (this.unfolded === undefined) {
      const { rows, slices } = await this.folds.countUnfolded(trx);
      this.unfolded = rows;
      this.slicesLeft = slices;
    } else {
      this.unfolded += rowsWritten - this.rowsWritten;
    }
    this.rowsWritten = rowsWritten;
    return this.unfolded;
  }
}

const IN_SQL: TrafficFolds = {
  foldTraffic,
  foldSlices,
  async countUnfolded(trx) {
    const fold = await readTrafficFold(trx);
    const { rows } = await trx
      .selectFrom('traffic')
      .select(({ fn }) => fn.countAll<number>().as('rows'))
      .where(isUnfolded(fold))
      .executeTakeFirstOrThrow();
    return { rows, slices: FOLD_SLICES - fold.slices };
  },
};
