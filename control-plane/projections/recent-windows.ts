import { type RawBuilder, sql } from 'kysely';
import type { Database } from '../storage/database.ts';

/** Gauges of older windows are gone: they say nothing of now (the metric contract). */
const FRESH_SECONDS = 15;
/** Ours: an event bears the time at which its transaction began, and that may have waited for the lock of the log. */
const LOCK_WAIT_SECONDS = 5;
/** Ours: events between two that are looked at. */
const STRIDE = 1_000;
/** Of a byte; a bit a microsecond is a megabit a second. */
const BITS = sql.lit(8);
const US_PER_SECOND = sql.lit(1_000_000);

export interface RecentWindow {
  readonly connection_id: string;
  readonly client_id: string;
  readonly window_end: Date;
  readonly rtt_ms: number | null;
  readonly throughput_in_mbps: number;
  readonly throughput_out_mbps: number;
  readonly loss_percent: number | null;
}

/**
 * A position of the log behind which all fresh windows are: no window is recorded before it ends. Of `traffic` only the index by
 * position tells the newest rows from millions of others as soon as they are there.
 */
export async function readFreshPosition(database: Database): Promise<number> {
  const age = sql`${sql.lit(FRESH_SECONDS + LOCK_WAIT_SECONDS)} * interval '1 second'`;
  const { rows } = await sql<{ position: number }>`
    WITH RECURSIVE back AS (
      SELECT (SELECT position FROM event_checkpoint) AS position
      UNION ALL
      SELECT position - ${sql.lit(STRIDE)} FROM back
      WHERE (SELECT recorded_at FROM events WHERE events.position = back.position) > statement_timestamp() - ${age}
    ) SELECT min(position) AS position FROM back`.execute(database);
  return rows[0]!.position;
}

/** A query for the newest window of every connection that has a fresh one. `after`: a position behind which those are. */
export function recentWindows(after: number, condition: RawBuilder<boolean> = sql`true`): RawBuilder<RecentWindow> {
  return sql<RecentWindow>`
    SELECT connection_id, client_id, window_end, rtt_ms, loss_percent,
      coalesce(bytes_in * ${BITS} / microseconds, 0) AS throughput_in_mbps,
      coalesce(bytes_out * ${BITS} / microseconds, 0) AS throughput_out_mbps
    FROM (
      SELECT DISTINCT ON (connection_id)
        connection_id, client_id, window_start, window_end, rtt_ms, loss_percent, bytes_in, bytes_out
      FROM traffic
      WHERE position > ${after}::bigint
        AND window_end > statement_timestamp() - ${sql.lit(FRESH_SECONDS)} * interval '1 second'
        AND kind <> 'close' AND ${condition}
      ORDER BY connection_id, window_end DESC
    ) AS newest, LATERAL (
      SELECT nullif(round(date_part('epoch', window_end - window_start) * ${US_PER_SECOND}), 0) AS microseconds
    ) AS length`;
}
