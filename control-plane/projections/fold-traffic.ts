import { type RawBuilder, sql } from 'kysely';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type FoldedRows, MOVED, rowsInTable, rowsOfSums } from './folded-rows.ts';
import { LATENCY_MS_BOUNDS, sumOfBuckets } from './histogram-buckets.ts';
import { SummedRound } from './summed-round.ts';
import type { TrafficSums } from './traffic-sums.ts';
import {
  FOLD_SLICES,
  foldedThrough,
  foldSlice,
  isUnfolded,
  newestTraffic,
  readFoldSlices,
  readTrafficFold,
  type TrafficFold,
} from './unfolded-traffic.ts';

const MAX_BIGINT = '9223372036854775807';
const MAX_EXACT = Number.MAX_SAFE_INTEGER;
/** Ours: in these, 100,000 connections are grouped; Postgres' usual 4 MB send them through temporary files. */
const WORK_MEM = '64MB';

/**
 * Brings what follows from traffic up to its newest row, or to that of position `through`: the windows' sums and days of connections,
 * totals and latencies of clients, hours and days. Takes each row once, under the projection lock. Returns how many it took. Sums end
 * at the highest number that their column holds, so that nothing that nodes send can make this fail.
 */
export async function foldTraffic(trx: DatabaseTransaction, through?: number): Promise<number> {
  const fold = await readTrafficFold(trx);
  const { folded, position } = await foldRows(trx, rowsInTable(isUnfolded(fold, through)));
  const end = through ?? Math.max(position, fold.round_end ?? 0);
  if (fold.slices > 0 || end > fold.position) await writeFold(trx, foldedThrough(end));
  return folded;
}

/**
 * As `foldTraffic`, but only for the next `count` of FOLD_SLICES parts of the clients; the rows that are there when the first
 * part is folded are those of the others too. Many such calls, together, cost a little more, and none of them takes long.
 */
export async function foldSlices(trx: DatabaseTransaction, count: number, through?: number): Promise<number> {
  const { position, round_end, slices } = await readTrafficFold(trx);
  const end = slices > 0 && round_end !== null ? round_end : (through ?? (await newestTraffic(trx, position)));
  const next = Math.min(slices + count, FOLD_SLICES);
  const isMine = sql<boolean>`position > ${position}::bigint AND position <= ${end}::bigint
    AND ${foldSlice} >= ${slices}::integer AND ${foldSlice} < ${next}::integer`;
  const { folded } = await foldRows(trx, rowsInTable(isMine));
  await writeFold(trx, next === FOLD_SLICES ? foldedThrough(end) : { position, round_end: end, slices: next });
  return folded;
}

/** Makes a round of all that is summed, which is all that is not folded. */
export async function divideSums(trx: DatabaseTransaction, sums: TrafficSums): Promise<SummedRound> {
  const clientIds = new Set(sums.hours().map(({ clientId }) => clientId));
  const slices = await readFoldSlices(trx, [...clientIds]);
  return new SummedRound(sums, (clientId) => slices.get(clientId)!);
}

/** As `foldSlices`, of a round of sums. */
export async function foldSums(trx: DatabaseTransaction, round: SummedRound, count: number): Promise<number> {
  const { folded } = await foldRows(trx, rowsOfSums(round.take(count)));
  await writeFold(trx, round.fold);
  return folded;
}

async function writeFold(trx: DatabaseTransaction, fold: TrafficFold): Promise<void> {
  await trx.updateTable('traffic_fold').set(fold).execute();
}

/** `position`: the newest among the rows; 0 where there are none. */
async function foldRows(
  trx: DatabaseTransaction,
  { hours, latencies }: FoldedRows,
): Promise<{ readonly folded: number; readonly position: number }> {
  await sql`SET LOCAL work_mem = ${sql.lit(WORK_MEM)}`.execute(trx);
  const { rows } = await sql<{ folded: number; position: number }>`
    WITH hours AS MATERIALIZED (
      ${hours}
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
    ), folded_latencies AS (
      INSERT INTO client_histograms (client_id, family, quantile, buckets, sum, count)
      ${latencies}
      ON CONFLICT (client_id, family, quantile) DO UPDATE SET buckets = ${sumOfBuckets(LATENCY_MS_BOUNDS)},
        sum = client_histograms.sum + excluded.sum, count = client_histograms.count + excluded.count
    )
    SELECT coalesce(sum(rows), 0)::bigint AS folded, coalesce(max(position), 0) AS position FROM hours`.execute(trx);
  return rows[0]!;
}

const moved = (write: (column: string) => string): RawBuilder<unknown> => sql.raw(MOVED.map(write).join(', '));

const cap = (sum: string): string => `least(${sum}, ${MAX_BIGINT})`;
const capped = (sum: string): RawBuilder<unknown> => sql.raw(cap(sum));

/** In `ON CONFLICT DO UPDATE`; sums of numeric, because those of bigint can overflow. */
function added(table: string, columns: readonly string[]): RawBuilder<unknown> {
  return sql.raw(columns.map((c) => `${c} = ${cap(`${table}.${c}::numeric + excluded.${c}`)}`).join(', '));
}
