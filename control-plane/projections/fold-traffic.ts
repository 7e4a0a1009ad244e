import { type RawBuilder, sql } from 'kysely';
import type { DatabaseTransaction } from '../storage/database.ts';
import { LATENCY_MS_BOUNDS, sumOfBuckets } from './histogram-buckets.ts';
import { FOLD_SLICES, foldSlice, isUnfolded, readTrafficFold } from './unfolded-traffic.ts';

const MAX_BIGINT = '9223372036854775807';
const MAX_EXACT = Number.MAX_SAFE_INTEGER;
/** By quantile: the column of `traffic` that is observed under it. */
const LATENCY_COLUMNS = { '0.5': 'latency_p50_ms', '0.95': 'latency_p95_ms', '0.99': 'latency_p99_ms' } as const;

/**
 * Brings what follows from traffic up to its newest row: the windows' sums and days of connections, totals and latencies
 * of clients, hours and days. Takes each row once, under the projection lock. Returns how many it took. Sums end at the
 * highest number that their column holds, so that nothing that nodes send can make this fail.
 */
export async function foldTraffic(trx: DatabaseTransaction): Promise<number> {
  const fold = await readTrafficFold(trx);
  const { folded, position } = await foldRows(trx, isUnfolded(fold));
  if (fold.slices > 0 || position > fold.position) {
    const end = Math.max(position, fold.round_end ?? 0);
    await trx.updateTable('traffic_fold').set({ position: end, round_end: null, slices: 0 }).execute();
  }
  return folded;
}

/**
 * As `foldTraffic`, but only for the next `count` of FOLD_SLICES parts of the clients; the rows that are there when the first
 * part is folded are those of the others too. Many such calls, together, cost a little more, and none of them takes long.
 */
export async function foldSlices(trx: DatabaseTransaction, count: number): Promise<number> {
  const { position, round_end, slices } = await readTrafficFold(trx);
  const end = slices > 0 && round_end !== null ? round_end : await newestPosition(trx, position);
  const next = Math.min(slices + count, FOLD_SLICES);
  const isMine = sql<boolean>`position > ${position}::bigint AND position <= ${end}::bigint
    AND ${foldSlice} >= ${slices}::integer AND ${foldSlice} < ${next}::integer`;
  const { folded } = await foldRows(trx, isMine);
  const isWhole = next === FOLD_SLICES;
  await trx
    .updateTable('traffic_fold')
    .set(isWhole ? { position: end, round_end: null, slices: 0 } : { round_end: end, slices: next })
    .execute();
  return folded;
}

async function newestPosition(trx: DatabaseTransaction, position: number): Promise<number> {
  const { newest } = await trx
    .selectFrom('traffic')
    .select(({ fn }) => fn.max<number | null>('position').as('newest'))
    .where('position', '>', position)
    .executeTakeFirstOrThrow();
  return newest ?? position;
}

/** `position`: the newest among the rows; 0 where there are none. */
async function foldRows(
  trx: DatabaseTransaction,
  condition: RawBuilder<boolean>,
): Promise<{ readonly folded: number; readonly position: number }> {
  const latencies = Object.entries(LATENCY_COLUMNS).map(([quantile, column]) => latencyOf(quantile, column));
  const { rows } = await sql<{ folded: number; position: number }>`
    WITH hours AS MATERIALIZED (
      SELECT connection_id, client_id, node, date_trunc('hour', window_end, 'UTC') AS hour,
        ${moved((c) => `sum(${c}) AS ${c}`)},
        ${moved((c) => `coalesce(sum(${c}) FILTER (WHERE kind = 'window'), 0) AS sampled_${c}`)},
        max(window_end) AS last_seen, max(position) AS position, count(*) AS rows
      FROM traffic WHERE ${condition} GROUP BY 1, 2, 3, 4
    ), days AS MATERIALIZED (
      SELECT connection_id, client_id, node, (hour AT TIME ZONE 'UTC')::date AS day,
        ${moved((c) => `sum(${c}) AS ${c}`)}, ${moved((c) => `sum(sampled_${c}) AS sampled_${c}`)}
      FROM hours GROUP BY 1, 2, 3, 4
    ), folded_connections AS (
      UPDATE connections c SET traffic_days = c.traffic_days + s.days,
        ${moved((m) => `sampled_${m} = least(c.sampled_${m} + s.${m}, ${MAX_EXACT})`)}
      FROM (
        SELECT connection_id, range_agg(daterange(day, day, '[]')) AS days, ${moved((c) => `sum(sampled_${c}) AS ${c}`)}
        FROM days GROUP BY connection_id
      ) s WHERE s.connection_id = c.connection_id
    ), folded_clients AS (
      INSERT INTO client_totals (client_id, last_seen, bytes_sent, bytes_received, packets_sent, packets_received)
      SELECT client_id, max(last_seen), ${capped('sum(bytes_out)')}, ${capped('sum(bytes_in)')},
        ${capped('sum(packets_out)')}, ${capped('sum(packets_in)')}
      FROM hours GROUP BY client_id
      ON CONFLICT (client_id) DO UPDATE SET last_seen = greatest(client_totals.last_seen, excluded.last_seen),
        ${added('client_totals', ['bytes_sent', 'bytes_received', 'packets_sent', 'packets_received'])}
    ), folded_hours AS (
      INSERT INTO traffic_hourly (hour, client_id, node, ${moved((c) => c)})
      SELECT hour, client_id, node, ${moved((c) => cap(`sum(${c})`))} FROM hours GROUP BY 1, 2, 3
      ON CONFLICT (client_id, hour, node) DO UPDATE SET ${added('traffic_hourly', MOVED)}
    ), folded_days AS (
      INSERT INTO traffic_daily (day, client_id, node, ${moved((c) => c)}, connections)
      SELECT day, d.client_id, d.node, ${moved((m) => cap(`sum(d.${m})`))},
        count(*) FILTER (WHERE NOT c.traffic_days @> day)
      FROM days d JOIN connections c USING (connection_id) GROUP BY 1, 2, 3
      ON CONFLICT (client_id, day, node) DO UPDATE SET
        ${added('traffic_daily', MOVED)}, connections = traffic_daily.connections + excluded.connections
    ), observed AS MATERIALIZED (
      SELECT client_id, ${sql.raw(Object.values(LATENCY_COLUMNS).map(withBucket).join(', '))}
      FROM traffic WHERE ${condition} AND latency_p50_ms IS NOT NULL
    ), folded_latencies AS (
      INSERT INTO client_histograms (client_id, family, quantile, buckets, sum, count)
      ${sql.join(latencies, sql` UNION ALL `)}
      ON CONFLICT (client_id, family, quantile) DO UPDATE SET buckets = ${sumOfBuckets(LATENCY_MS_BOUNDS)},
        sum = client_histograms.sum + excluded.sum, count = client_histograms.count + excluded.count
    )
    SELECT coalesce(sum(rows), 0)::bigint AS folded, coalesce(max(position), 0) AS position FROM hours`.execute(trx);
  return rows[0]!;
}

const MOVED = ['bytes_in', 'bytes_out', 'packets_in', 'packets_out'] as const;

const moved = (write: (column: string) => string): RawBuilder<unknown> => sql.raw(MOVED.map(write).join(', '));

const cap = (sum: string): string => `least(${sum}, ${MAX_BIGINT})`;
const capped = (sum: string): RawBuilder<unknown> => sql.raw(cap(sum));

/** In `ON CONFLICT DO UPDATE`; sums of numeric, because those of bigint can overflow. */
function added(table: string, columns: readonly string[]): RawBuilder<unknown> {
  return sql.raw(columns.map((c) => `${c} = ${cap(`${table}.${c}::numeric + excluded.${c}`)}`).join(', '));
}

/** An observation and its bucket: as `bucketOf`, with bounds that belong to their bucket. */
function withBucket(column: string): string {
  // width_bucket counts the bounds that are not above a value, and here those not below it are wanted.
  const mirrored = LATENCY_MS_BOUNDS.toReversed().map((bound) => -bound);
  const bounds = `'{${mirrored.join(',')}}'::double precision[]`;
  return `${column}, ${LATENCY_MS_BOUNDS.length} - width_bucket(-${column}, ${bounds}) AS ${column}_bucket`;
}

function latencyOf(quantile: string, column: string): RawBuilder<unknown> {
  const counts = Array.from(
    { length: LATENCY_MS_BOUNDS.length + 1 },
    (_, bucket) => `count(*) FILTER (WHERE ${column}_bucket = ${bucket})`,
  );
  return sql.raw(`SELECT client_id, 'latency_ms', '${quantile}', ARRAY[${counts.join(', ')}],
    sum(${column}::numeric), count(*) FROM observed GROUP BY client_id`);
}
