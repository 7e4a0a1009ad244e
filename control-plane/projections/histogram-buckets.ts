import { type RawBuilder, sql } from 'kysely';
import type { HistogramFamily } from '../storage/tables.ts';

// The stored counts have one element a bound and a last one for what is above them all. Bounds are never changed: the
// stored histograms of all clients are counted by them.

/** Upper bounds, inclusive, of masque_vpn_latency_ms: milliseconds. */
export const LATENCY_MS_BOUNDS: readonly number[] = [
  0.5, 1, 2, 5, 10, 20, 35, 50, 75, 100, 150, 200, 300, 500, 1_000, 2_000, 5_000,
];

/** Upper bounds, inclusive, of masque_vpn_connection_duration_seconds: from a second to a week. */
export const DURATION_SECONDS_BOUNDS: readonly number[] = [
  1, 5, 15, 30, 60, 300, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200, 86_400, 259_200, 604_800,
];

export const HISTOGRAM_BOUNDS: Readonly<Record<HistogramFamily, readonly number[]>> = {
  latency_ms: LATENCY_MS_BOUNDS,
  connection_duration_seconds: DURATION_SECONDS_BOUNDS,
};

/** The element of the counts that an observation belongs to. */
export function bucketOf(bounds: readonly number[], value: number): number {
  const index = bounds.findIndex((bound) => value <= bound);
  return index < 0 ? bounds.length : index;
}

/** In `ON CONFLICT DO UPDATE` of `client_histograms`: the counts of both rows together. */
export function sumOfBuckets(bounds: readonly number[]): RawBuilder<unknown> {
  const places = Array.from({ length: bounds.length + 1 }, (_, index) => index + 1);
  const sums = places.map((n) => `client_histograms.buckets[${n}] + excluded.buckets[${n}]`);
  return sql.raw(`ARRAY[${sums.join(', ')}]`);
}
