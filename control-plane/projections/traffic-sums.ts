import type { TrafficTotals } from '../../shared/events/traffic-columns.ts';
import type { Row } from '../storage/tables.ts';
import { bucketOf, LATENCY_MS_BOUNDS } from './histogram-buckets.ts';

const MS_PER_HOUR = 3_600_000;
const US_PER_MS = 1_000;
/** Ours: more hours of one connection at once are searched for too long. */
const MAX_HOURS = 48;
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

/** What rows of one connection in one hour (UTC) add up to. Times are milliseconds since 1970. */
export interface HourSum {
  readonly connectionId: string;
  readonly clientId: string;
  readonly node: string;
  readonly hour: number;
  readonly all: Mutable<TrafficTotals>;
  /** Of rows of kind `window`. */
  readonly sampled: Mutable<TrafficTotals>;
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

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/**
 * Sums of the rows of `traffic` behind one position, from when they were written: who has them need not read those rows again to fold
 * them. Whoever writes rows without them folds in the same transaction. Rows that numbers cannot add exactly are only counted: those
 * are for Postgres to add.
 */
export class TrafficSums {
  /** All rows behind this position are in; undefined: nothing is kept. */
  private first: number | undefined;
  private last = 0;
  private readonly sums = new Map<string, HourSum[]>();
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
    return [...this.sums.values()].flat();
  }

  /** How many connections there are sums of. */
  get connections(): number {
    return this.sums.size;
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
      const hours = this.sums.get(row.connectionId);
      let sum = hours?.find((known) => known.hour === hour);
      if (sum === undefined) {
        sum = emptySum(row, hour);
        // Nearly all have one, and an array that was pushed to has room for 17.
        if (hours === undefined) this.sums.set(row.connectionId, [sum]);
        else hours.push(sum);
      }
      addTo(sum.all, row);
      if (row.kind === 'window') addTo(sum.sampled, row);
      sum.lastSeen = Math.max(sum.lastSeen, endMs);
      sum.position = row.position;
      sum.rows += 1;
      this.exact = (hours?.length ?? 1) <= MAX_HOURS && isExact(sum.all) && this.observe(row);
      if (!this.exact) this.clear();
    }
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

function emptySum({ connectionId, clientId, node, position }: SummedRow, hour: number): HourSum {
  const nothing = (): Mutable<TrafficTotals> => ({ bytesIn: 0, bytesOut: 0, packetsIn: 0, packetsOut: 0 });
  const identity = { connectionId, clientId, node, hour };
  return { ...identity, all: nothing(), sampled: nothing(), lastSeen: hour, position, rows: 0 };
}

function addTo(sum: Mutable<TrafficTotals>, { bytesIn, bytesOut, packetsIn, packetsOut }: TrafficTotals): void {
  sum.bytesIn += bytesIn;
  sum.bytesOut += bytesOut;
  sum.packetsIn += packetsIn;
  sum.packetsOut += packetsOut;
}

const isExact = ({ bytesIn, bytesOut, packetsIn, packetsOut }: TrafficTotals): boolean =>
  Math.max(bytesIn, bytesOut, packetsIn, packetsOut) <= Number.MAX_SAFE_INTEGER;
