import { type RawBuilder, sql } from 'kysely';

/** Gauges of older windows are gone: they say nothing of now (the metric contract). */
const FRESH_SECONDS = 15;
/** Of a byte; a bit a microsecond is a megabit a second. */
const BITS = sql.lit(8);

export interface RecentWindow {
  readonly connection_id: string;
  readonly client_id: string;
  readonly window_end: Date;
  readonly rtt_ms: number | null;
  readonly throughput_in_mbps: number;
  readonly throughput_out_mbps: number;
  readonly loss_percent: number | null;
}

/** A query for the newest window of every connection that has a fresh one. */
export function recentWindows(condition: RawBuilder<boolean> = sql`true`): RawBuilder<RecentWindow> {
  return sql<RecentWindow>`
    SELECT connection_id, client_id, window_end, rtt_ms, loss_percent,
      coalesce(bytes_in * ${BITS} / microseconds, 0) AS throughput_in_mbps,
      coalesce(bytes_out * ${BITS} / microseconds, 0) AS throughput_out_mbps
    FROM (
      SELECT DISTINCT ON (connection_id) *,
        nullif(extract(epoch FROM window_end - window_start) * 1000000, 0)::double precision AS microseconds
      FROM traffic
      WHERE window_end > statement_timestamp() - ${sql.lit(FRESH_SECONDS)} * interval '1 second'
        AND kind <> 'close' AND ${condition}
      ORDER BY connection_id, window_end DESC
    ) AS newest`;
}
