import type { HourSum, LatencySum, TrafficSums } from './traffic-sums.ts';
import { FOLD_SLICES, foldedThrough, type TrafficFold } from './unfolded-traffic.ts';

/** What rows of `traffic` add up to, of some clients or of all. */
export interface SummedRows {
  readonly hours: readonly HourSum[];
  readonly latencies: readonly LatencySum[];
}

interface Slice {
  readonly hours: HourSum[];
  readonly latencies: LatencySum[];
  rows: number;
}

/**
 * Sums of all rows of `traffic` behind one position and up to another, in the slices that `traffic_fold` counts: a round. Folded slice by
 * slice it is at all times what that table says, so whoever has no sums can go on with it from the rows. What comes meanwhile belongs to
 * the next round.
 */
export class SummedRound {
  private readonly after: number;
  private readonly end: number;
  /** Those that are not taken, in their order. */
  private readonly left: Slice[];

  /** `sliceOf`: the slice of a client, as Postgres numbers it. */
  constructor(sums: TrafficSums, sliceOf: (clientId: string) => number) {
    this.after = sums.after ?? sums.position;
    this.end = sums.position;
    this.left = Array.from({ length: FOLD_SLICES }, () => ({ hours: [], latencies: [], rows: 0 }));
    for (const sum of sums.hours()) {
      const slice = this.left[sliceOf(sum.clientId)]!;
      slice.hours.push(sum);
      slice.rows += sum.rows;
    }
    for (const sum of sums.latencies()) this.left[sliceOf(sum.clientId)]!.latencies.push(sum);
  }

  /** What `traffic_fold` has to say when all that was taken is folded. */
  get fold(): TrafficFold {
    if (this.isTaken) return this.foldAtEnd;
    return { position: this.after, round_end: this.end, slices: FOLD_SLICES - this.left.length };
  }

  /** The same, when nothing is left. */
  get foldAtEnd(): TrafficFold {
    return foldedThrough(this.end);
  }

  /** False where others have folded its rows meanwhile. */
  isAt({ position, round_end: end, slices }: TrafficFold): boolean {
    const { fold } = this;
    return position === fold.position && slices === fold.slices && (slices === 0 || end === fold.round_end);
  }

  /** Whether nothing is left. */
  get isTaken(): boolean {
    return this.left.length === 0;
  }

  /** Rows that are left. */
  get rows(): number {
    return this.left.reduce((sum, { rows }) => sum + rows, 0);
  }

  /** Sums that are left, or those of the next `count` slices: about as many as connections. */
  sums(count = FOLD_SLICES): number {
    return this.left.slice(0, count).reduce((sum, { hours }) => sum + hours.length, 0);
  }

  /** How many of the next slices have no more than so many sums together; at least one. */
  slicesWithin(sums: number): number {
    const most = Math.max(sums, this.sums(1));
    let count = 1;
    while (count < this.left.length && this.sums(count + 1) <= most) count += 1;
    return count;
  }

  /** Takes the next `count` slices out of the round, to fold them. */
  take(count: number): SummedRows {
    const taken = this.left.splice(0, count);
    return { hours: taken.flatMap(({ hours }) => hours), latencies: taken.flatMap(({ latencies }) => latencies) };
  }
}
