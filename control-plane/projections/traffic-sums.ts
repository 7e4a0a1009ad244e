import type { TrafficTotals } from '../../shared/events/traffic-columns.ts';
import type { Row } from '../storage/tables.ts';
import { bucketOf, LATENCY_MS_BOUNDS } from './histogram-buckets.ts';
import { addTo, isExact, NO_TRAFFIC, totalOf } from './traffic-totals.ts';

const MS_PER_HOUR = 3_600_000;
const US_PER_MS = 1_000;
/** Ours: with windows that end in more hours than this, a map for each would soon take more than what is in it. */
const MAX_HOURS = 1_000;
/** Up to here a number is what its first 15 digits say, which is what Postgres takes it for. */
const MAX_EXACT_US = 1e15;

/** A row of `traffic`, as far as something follows from it. */
export interface SummedRow extends TrafficTotals {
  readonly position: number;
  readonly connectionId: string;
  readonly clientId: string;
  readonly node: string;
  readonly kind: Row<'traffic'>['kind'];
  /** As events have it. */
  readonly windowEnd: string;
  /** p50, p95 and p99, milliseconds. */
  readonly latencyMs: readonly [number, number, number] | null;
}

/**
 * What rows of one connection in one hour (UTC) add up to, those of kind `window` by themselves. Times are milliseconds since 1970. There
 * can be hundreds of thousands of them, so all is in one object.
 */
export interface HourSum extends TrafficTotals {
  readonly connectionId: string;
  readonly clientId: string;
  readonly node: string;
  readonly hour: number;
  /** Of rows of other kinds; null: there are none. */
  others: TrafficTotals | null;
  lastSeen: number;
  position: number;
  rows: number;
}

/** How often latencies fell into each bucket, and what they add up to: microseconds, whole, so that the order is of no matter. */
export interface LatencySum {
  readonly clientId: string;
  /** Of p50, p95 and p99. */
  readonly percentile: number;
  readonly buckets: number[];
  sumUs: number;
  count: number;
}

/**
 * Sums of the rows of `traffic` behind one position, from when they were written: who has them need not read those rows again to fold
 * them. Whoever writes rows without them folds in the same transaction. Rows that numbers cannot add exactly are only counted: those
 * are for Postgres to add.
 */
export class TrafficSums {
  /** All rows behind this position are in; undefined: nothing is kept. */
  private first: number | undefined;
  private last = 0;
  /** By hour and connection. */
  private readonly sums = new Map<number, Map<string, HourSum>>();
  private readonly latencySums = new Map<string, LatencySum[]>();
  private count = 0;
  private exact = true;

  /** Every row behind this position of the log is summed; undefined while nothing is. */
  get after(): number | undefined {
    return this.first;
  }

  /** Position of the newest row. */
  get position(): number {
    return this.last;
  }

  /** False where there are no sums of the rows, because they would not be exact. */
  get isExact(): boolean {
    return this.exact;
  }

  /** Rows behind that position. */
  get rows(): number {
    return this.count;
  }

  latencies(): LatencySum[] {
    return [...this.latencySums.values()].flat();
  }

  hours(): HourSum[] {
    return [...this.sums.values()].flatMap((sums) => [...sums.values()]);
  }

  /** How many sums there are: as many as connections, but that each counts in every hour of its windows. */
  get size(): number {
    return [...this.sums.values()].reduce((sum, { size }) => sum + size, 0);
  }

  /** Starts anew: with the rows that will be written behind `position`. */
  begin(position: number): void {
    this.forget();
    this.first = position;
    this.last = position;
  }

  forget(): void {
    this.first = undefined;
    this.count = 0;
    this.exact = true;
    this.clear();
  }

  add(rows: Iterable<SummedRow>): void {
    if (this.first === undefined) return;
    // The samples of a window end together.
    let end: string | undefined;
    let endMs = 0;
    let hour = 0;
    for (const row of rows) {
      if (row.windowEnd !== end) {
        end = row.windowEnd;
        endMs = Date.parse(end);
        hour = Math.floor(endMs / MS_PER_HOUR) * MS_PER_HOUR;
      }
      this.last = row.position;
      this.count += 1;
      if (!this.exact) continue;
      const sum = this.sumOf(row, hour);
      if (row.kind === 'window') addTo(sum, row);
      else sum.others = totalOf(sum.others ?? NO_TRAFFIC, row);
      sum.lastSeen = Math.max(sum.lastSeen, endMs);
      sum.position = row.position;
      sum.rows += 1;
      this.exact = this.sums.size <= MAX_HOURS && isExact(allOf(sum)) && this.observe(row);
      if (!this.exact) this.clear();
    }
  }

  private sumOf(row: SummedRow, hour: number): HourSum {
    let sums = this.sums.get(hour);
    if (sums === undefined) {
      sums = new Map();
      this.sums.set(hour, sums);
    }
    let sum = sums.get(row.connectionId);
    if (sum === undefined) {
      sum = emptySum(row, hour);
      sums.set(row.connectionId, sum);
    }
    return sum;
  }

  private clear(): void {
    this.sums.clear();
    this.latencySums.clear();
  }

  /** False where the sums would not be exact. */
  private observe({ clientId, latencyMs }: SummedRow): boolean {
    if (latencyMs === null) return true;
    let sums = this.latencySums.get(clientId);
    if (sums === undefined) {
      sums = latencyMs.map((_, percentile) => ({
        clientId,
        percentile,
        buckets: new Array<number>(LATENCY_MS_BOUNDS.length + 1).fill(0),
        sumUs: 0,
        count: 0,
      }));
      this.latencySums.set(clientId, sums);
    }
    for (const sum of sums) {
      const ms = latencyMs[sum.percentile] as number;
      const us = Math.round(ms * US_PER_MS);
      sum.sumUs += us;
      sum.count += 1;
      const bucket = bucketOf(LATENCY_MS_BOUNDS, ms);
      sum.buckets[bucket] = (sum.buckets[bucket] ?? 0) + 1;
      if (us / US_PER_MS !== ms || us > MAX_EXACT_US || !Number.isSafeInteger(sum.sumUs)) return false;
    }
    return true;
  }
}

/** Of rows of all kinds. */
export function allOf(sum: HourSum): TrafficTotals {
  return sum.others === null ? sum : totalOf(sum, sum.others);
}

function emptySum({ connectionId, clientId, node, position }: SummedRow, hour: number): HourSum {
  return {
    connectionId,
    clientId,
    node,
    hour,
    bytesIn: 0,
    bytesOut: 0,
    packetsIn: 0,
    packetsOut: 0,
    others: null,
    lastSeen: hour,
    position,
    rows: 0,
  };
}
