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

/**
 * Decides when traffic is folded. While there is little of it, in the transaction that brings it, so that SQL and metrics are
 * up to date; under load many rows of a connection at once, in parts, which costs a tenth as much. Belongs to one attempt to
 * project: after a failure another one is made.
 */
export class FoldSchedule {
  private readonly memory: ProjectionMemory;
  /** Rows that are not folded; undefined before they are counted. */
  private unfolded: number | undefined;
  private rowsWritten = 0;
  private msPerRow = FIRST_MS_PER_ROW;
  private budgetMs = MAX_FOLD_MS;
  private lastAt = performance.now();

  constructor(memory: ProjectionMemory) {
    this.memory = memory;
  }

  isBehind(): boolean {
    return this.unfolded !== 0;
  }

  /** `isIdle`: there is nothing else to do. */
  async run(trx: DatabaseTransaction, isIdle: boolean): Promise<void> {
    const unfolded = await this.count(trx);
    const startedAt = performance.now();
    this.budgetMs = Math.min(MAX_FOLD_MS, this.budgetMs + (startedAt - this.lastAt) * TIME_SHARE);
    this.lastAt = startedAt;
    if (isIdle || unfolded > MAX_UNFOLDED_ROWS) this.budgetMs = MAX_FOLD_MS;
    const wholeMs = STATEMENT_MS + unfolded * this.msPerRow;
    if (unfolded === 0 || (this.budgetMs < wholeMs && this.budgetMs < MAX_FOLD_MS)) return;
    const slices = Math.max(1, Math.floor((FOLD_SLICES * MAX_FOLD_MS) / wholeMs));
    const isWhole = this.budgetMs >= wholeMs;
    const folded = await (isWhole ? foldTraffic(trx) : foldSlices(trx, slices));
    const tookMs = performance.now() - startedAt;
    this.budgetMs -= tookMs;
    this.unfolded = isWhole ? 0 : Math.max(1, unfolded - folded);
    if (folded === 0) return;
    const measured = Math.max(0, tookMs - STATEMENT_MS) / folded;
    this.msPerRow += SMOOTHING * (measured - this.msPerRow);
  }

  private async count(trx: DatabaseTransaction): Promise<number> {
    const { rowsWritten } = this.memory.traffic;
    if (this.unfolded === undefined) {
      const { rows } = await trx
        .selectFrom('traffic')
        .select(({ fn }) => fn.countAll<number>().as('rows'))
        .where(isUnfolded(await readTrafficFold(trx)))
        .executeTakeFirstOrThrow();
      this.unfolded = rows;
    } else {
      this.unfolded += rowsWritten - this.rowsWritten;
    }
    this.rowsWritten = rowsWritten;
    return this.unfolded;
  }
}
