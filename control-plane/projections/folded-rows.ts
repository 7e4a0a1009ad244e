import { type RawBuilder, sql } from 'kysely';
import type { TrafficTotals } from '../../shared/events/traffic-columns.ts';
import { decimalOf } from '../storage/decimal-of.ts';
import { type Column, timestamp, unnestColumns } from '../storage/insert-rows.ts';
import { LATENCY_MS_BOUNDS } from './histogram-buckets.ts';
import type { SummedRows } from './summed-round.ts';
import { allOf, type HourSum, type LatencySum } from './traffic-sums.ts';

/** Queries for what rows of `traffic` add up to, which is folded into other tables. */
export interface FoldedRows {
  /** Of each connection, in each hour. */
  readonly hours: RawBuilder<unknown>;
  /** For `client_histograms`: client, family, quantile, buckets, sum and count. */
  readonly latencies: RawBuilder<unknown>;
}

const FAMILY = 'latency_ms';
/** Of milliseconds. */
const US_DIGITS = 3;
/** Of which `traffic` has a column each. */
const PERCENTILES = [
  { quantile: '0.5', column: 'latency_p50_ms' },
  { quantile: '0.95', column: 'latency_p95_ms' },
  { quantile: '0.99', column: 'latency_p99_ms' },
] as const;

/** What `traffic` and the sums of it count, each in a column. */
export const MOVED = ['bytes_in', 'bytes_out', 'packets_in', 'packets_out'] as const;

/** Of the rows that a condition names, which Postgres adds up: exact, whatever they have. */
export function rowsInTable(condition: RawBuilder<boolean>): FoldedRows {
  const sums = MOVED.map(
    (c) => `sum(${c}) AS ${c}, coalesce(sum(${c}) FILTER (WHERE kind = 'window'), 0) AS sampled_${c}`,
  );
  const columns = PERCENTILES.map(({ column }) => withBucket(column));
  return {
    hours: sql`
      SELECT connection_id, client_id, node, date_trunc('hour', window_end, 'UTC') AS hour, ${sql.raw(sums.join(', '))},
        max(window_end) AS last_seen, max(position) AS position, count(*) AS rows
      FROM traffic WHERE ${condition} GROUP BY 1, 2, 3, 4`,
    latencies: sql`
      WITH observed AS MATERIALIZED (
        SELECT client_id, ${sql.raw(columns.join(', '))} FROM traffic WHERE ${condition} AND latency_p50_ms IS NOT NULL
      ) ${sql.raw(PERCENTILES.map(latenciesOf).join(' UNION ALL '))}`,
  };
}

/** An observation and its bucket: as `bucketOf`, with bounds that belong to their bucket. */
function withBucket(column: string): string {
  // width_bucket counts the bounds that are not above a value, and here those not below it are wanted.
  const mirrored = LATENCY_MS_BOUNDS.toReversed().map((bound) => -bound);
  const bounds = `'{${mirrored.join(',')}}'::double precision[]`;
  return `${column}, ${LATENCY_MS_BOUNDS.length} - width_bucket(-${column}, ${bounds}) AS ${column}_bucket`;
}

function latenciesOf({ quantile, column }: (typeof PERCENTILES)[number]): string {
  const counts = Array.from(
    { length: LATENCY_MS_BOUNDS.length + 1 },
    (_, bucket) => `count(*) FILTER (WHERE ${column}_bucket = ${bucket})`,
  );
  return `SELECT client_id, '${FAMILY}', '${quantile}', ARRAY[${counts.join(', ')}],
    sum(${column}::numeric), count(*) FROM observed GROUP BY client_id`;
}

/** Of rows that are summed already. */
export function rowsOfSums({ hours, latencies }: SummedRows): FoldedRows {
  return {
    hours: sql`SELECT ${sql.join(unnestColumns(HOUR_COLUMNS, hours))}`,
    latencies: sql`SELECT ${sql.join(unnestColumns(LATENCY_COLUMNS, latencies))}`,
  };
}

const HOUR_COLUMNS: Readonly<Record<string, Column<HourSum>>> = {
  connection_id: { type: 'uuid', value: (sum) => sum.connectionId },
  client_id: { type: 'text', value: (sum) => sum.clientId },
  node: { type: 'text', value: (sum) => sum.node },
  hour: { type: 'timestamptz', value: (sum) => timestamp(sum.hour) },
  ...movedColumns('', allOf),
  ...movedColumns('sampled_', (sum) => sum),
  last_seen: { type: 'timestamptz', value: (sum) => timestamp(sum.lastSeen) },
  position: { type: 'bigint', value: (sum) => sum.position },
  rows: { type: 'bigint', value: (sum) => sum.rows },
};

function movedColumns(prefix: string, of: (sum: HourSum) => TrafficTotals): Record<string, Column<HourSum>> {
  return {
    [`${prefix}bytes_in`]: { type: 'bigint', value: (sum) => of(sum).bytesIn },
    [`${prefix}bytes_out`]: { type: 'bigint', value: (sum) => of(sum).bytesOut },
    [`${prefix}packets_in`]: { type: 'bigint', value: (sum) => of(sum).packetsIn },
    [`${prefix}packets_out`]: { type: 'bigint', value: (sum) => of(sum).packetsOut },
  };
}

const LATENCY_COLUMNS: Readonly<Record<string, Column<LatencySum>>> = {
  client_id: { type: 'text', value: (sum) => sum.clientId },
  family: { type: 'text', value: () => FAMILY },
  quantile: { type: 'text', value: (sum) => PERCENTILES[sum.percentile]?.quantile },
  buckets: { type: 'bigint[]', value: (sum) => `{${sum.buckets.join(',')}}` },
  sum: { type: 'numeric', value: (sum) => decimalOf(BigInt(sum.sumUs), US_DIGITS) },
  count: { type: 'bigint', value: (sum) => sum.count },
};
