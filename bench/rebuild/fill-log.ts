import { sql } from 'kysely';
import type { Database } from '../../control-plane/storage/database.ts';

/** Of what `fillLog` writes: 80 % of its records are samples, 50 in each window. */
export const GROUP = { connections: 50, windows: 16, events: 216, records: 1_000 } as const;

const NODES = 20;
const CLIENTS = 5_000;
/** Groups in one statement. */
const STEP = 500;

/**
 * Fills an empty log by SQL with groups of 50 connections each that come, are seen in 16 windows, and go: 216 events or 1,000
 * records a group. Nothing is projected, as if all projections had been lost.
 */
export async function fillLog(database: Database, groups: number): Promise<void> {
  for (let from = 0; from < groups; from += STEP) {
    const to = Math.min(groups, from + STEP);
    await database.transaction().execute(async (trx) => {
      await sql`SET LOCAL statement_timeout = 0`.execute(trx);
      await sql`SELECT ensure_event_partitions(${to * GROUP.events})`.execute(trx);
      await sql`
        INSERT INTO events (position, node, epoch, seq, incarnation, type, version, at, data, stream_seq)
        SELECT g.number * ${sql.lit(GROUP.events)} + e.place, 'node-' || g.number % ${sql.lit(NODES)},
          lpad(to_hex(g.number % ${sql.lit(NODES)}), 32, '0'),
          g.number / ${sql.lit(NODES)} * ${sql.lit(GROUP.events)} + e.place, repeat('a', 32),
          e.type, e.version, timestamptz '2026-01-01' + g.number * interval '1 second' + e.seconds * interval '1 second', e.data, 1
        FROM generate_series(${sql.lit(from)}::bigint, ${sql.lit(to - 1)}::bigint) AS g (number)
        CROSS JOIN LATERAL (${eventsOfGroup}) e`.execute(trx);
      await trx
        .updateTable('event_checkpoint')
        .set({ position: to * GROUP.events })
        .execute();
    });
  }
}

/** In a group: 50 arrivals of two events, 16 windows, 50 departures of two events. */
const eventsOfGroup = sql`
  WITH connection AS (
    SELECT i, md5(g.number || '/' || i)::uuid::text AS id,
      'client-' || (g.number * 50 + i) % ${sql.lit(CLIENTS)} AS client,
      host('10.0.0.0'::inet + (g.number * 50 + i) % 16000000) AS address,
      set_masklen(('10.0.0.0'::inet + (g.number * 50 + i) % 16000000)::cidr, 26)::text AS block
    FROM generate_series(0, 49) AS i
  )
  SELECT 2 * i + 1 AS place, 0.01 * i AS seconds, 'connection.established' AS type, 1 AS version, jsonb_build_object(
    'connectionId', id, 'clientId', client, 'remoteAddress', '198.51.100.' || i, 'remotePort', 40000 + i,
    'transport', 'http3', 'tunnelMtu', 1400) AS data FROM connection
  UNION ALL
  SELECT 2 * i + 2, 0.01 * i, 'address.assigned', 1, jsonb_build_object(
    'connectionId', id, 'clientId', client, 'address', address, 'block', block, 'pool', '10.0.0.0/8') FROM connection
  UNION ALL
  SELECT 101 + w, 5 * (w + 1), 'traffic.sampled', 2, jsonb_build_object(
    'windowStart', to_char(timestamptz '2026-01-01' AT TIME ZONE 'UTC' + g.number * interval '1 second' + w * interval '5 seconds', ${sql.lit('YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')}),
    'windowEnd', to_char(timestamptz '2026-01-01' AT TIME ZONE 'UTC' + g.number * interval '1 second' + (w + 1) * interval '5 seconds', ${sql.lit('YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')}),
    'errors', jsonb_build_object('packet', 0, 'other', 0), 'drops', '{}'::jsonb,
    'samples', (SELECT jsonb_build_object(
      'connectionId', jsonb_agg(id), 'clientId', jsonb_agg(client), 'bytesIn', jsonb_agg(1000 * (i + 1)),
      'bytesOut', jsonb_agg(50000 * (i + 1)), 'packetsIn', jsonb_agg(10 + i), 'packetsOut', jsonb_agg(40 + i),
      'rttMs', jsonb_agg(1.5 + i), 'latencyMs', jsonb_agg(jsonb_build_array(1.5, 4.25, 9.5)),
      'lossPercent', jsonb_agg(0)) FROM connection))
  FROM generate_series(0, 15) AS w
  UNION ALL
  SELECT 117 + 2 * i, 81 + 0.01 * i, 'connection.closed', 1, jsonb_build_object(
    'connectionId', id, 'clientId', client, 'reason', 'client', 'detail', '', 'durationMs', 81000,
    'totals', jsonb_build_object('bytesIn', 16500 * (i + 1), 'bytesOut', 800000 * (i + 1),
      'packetsIn', 16 * (10 + i), 'packetsOut', 16 * (40 + i))) FROM connection
  UNION ALL
  SELECT 118 + 2 * i, 81 + 0.01 * i, 'address.released', 1, jsonb_build_object(
    'connectionId', id, 'clientId', client, 'address', address, 'block', block, 'pool', '10.0.0.0/8',
    'reason', 'client') FROM connection`;
