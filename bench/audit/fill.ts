import { type RawBuilder, sql } from 'kysely';
import type pg from 'pg';
import { dropIndexes } from './bulk-indexes.ts';
import { SPREAD, SPREAD_FROM, seedConnections, spreadFunctions } from './spread.ts';

export interface FillSize {
  readonly connections: number;
  /** Rows of `traffic`: as many of each connection. */
  readonly traffic: number;
}

/** Runs statements on a session of its own. */
export interface Session {
  readonly client: pg.Client;
  readonly run: (statement: RawBuilder<unknown>) => Promise<void>;
}

/** A window of a node has so many connections; each connection has these events beside them (ours). */
const SAMPLES_PER_WINDOW = 50;
const EVENTS_PER_CONNECTION = 4;

/**
 * Fills the tables that auditors ask about, by SQL, indexes after rows. `sessions`: two, because the traffic is half of the
 * work and needs nothing of the rest but its seed.
 */
export async function fill(
  { connections, traffic }: FillSize,
  [one, two]: readonly [Session, Session],
  progress: (line: string) => void,
): Promise<void> {
  const samples = Math.round(traffic / connections);
  for (const { run } of [one, two]) await run(sql`SET TIME ZONE 'UTC'`);
  await one.run(spreadFunctions);
  progress(`${connections} connections are drawn`);
  await one.run(seedConnections(connections));
  const rest = async () => {
    await load(one, 'connections', connectionRows(samples), progress);
    await load(one, 'address_assignments', assignmentRows(), progress);
    await load(one, 'address_conflicts', conflictRows(), progress);
    await load(one, 'connection_failures', failureRows(connections), progress);
    await load(one, 'admin_events', adminRows(), progress);
    await load(one, 'traffic_daily', dailyRows(samples), progress);
  };
  await Promise.all([rest(), loadTraffic(two, samples, progress)]);
  progress('spools and log');
  const { rows } = await one.client.query<{ last: number }>('SELECT max(position)::float8 AS last FROM traffic');
  for (const statement of logRows(rows[0]!.last)) await one.run(statement);
  await one.run(sql`DROP SCHEMA bench CASCADE`);
  progress('statistics');
  await one.run(sql`VACUUM ANALYZE`);
}

async function load(
  { client, run }: Session,
  table: string,
  rows: RawBuilder<unknown>,
  progress: (line: string) => void,
): Promise<void> {
  progress(`${table}: rows`);
  const indexes = await dropIndexes(client, table);
  // What is written to a table that the same transaction emptied needs no write-ahead log.
  await client.query(`BEGIN; TRUNCATE ${table}`);
  await run(rows);
  await client.query('COMMIT');
  for (const definition of indexes) {
    progress(`${table}: ${/INDEX (\S+)/.exec(definition)?.[1]}`);
    await client.query(definition);
  }
}

/** When the sample `k` of a connection ends: spread evenly over the time that it was seen. */
const sampleEnd = (samples: number, k: RawBuilder<unknown>) => sql`begin + (seen - begin) * ${k} / ${sql.lit(samples)}`;

const connectionRows = (samples: number) => {
  const n = sql.lit(samples);
  return sql`
    INSERT INTO connections (connection_id, client_id, node, incarnation, state, reason, detail, remote_address, remote_port,
      transport, tunnel_mtu, established_at, closed_at, duration_ms, traffic_days,
      sampled_bytes_in, sampled_bytes_out, sampled_packets_in, sampled_packets_out,
      close_bytes_in, close_bytes_out, close_packets_in, close_packets_out)
    SELECT connection_id, client_id, node, md5(node), CASE WHEN open THEN 'open' ELSE 'closed' END,
      CASE WHEN NOT open THEN (ARRAY['client', 'client', 'client', 'idle', 'drained', 'error'])[1 + i % 6] END,
      CASE WHEN NOT open THEN '' END, '192.0.2.0'::inet + i % 256, 1024 + i % 60000,
      (ARRAY['http3', 'http3', 'http3', 'http2'])[1 + i % 4], 1400, begin, CASE WHEN NOT open THEN seen END,
      CASE WHEN NOT open THEN seconds * 1000 END,
      CASE WHEN begin::date = seen::date THEN datemultirange(daterange(begin::date, begin::date, '[]')) ELSE
        (SELECT range_agg(daterange(day, day, '[]')) FROM
          (SELECT DISTINCT (${sampleEnd(samples, sql`k`)})::date AS day FROM generate_series(1, ${n}) AS k) AS days) END,
      unit * ${n}, unit * 10 * ${n}, (unit / 1000 + 1) * ${n}, (unit / 100 + 1) * ${n},
      CASE WHEN NOT open THEN unit * ${n} END, CASE WHEN NOT open THEN unit * 10 * ${n} END,
      CASE WHEN NOT open THEN (unit / 1000 + 1) * ${n} END, CASE WHEN NOT open THEN (unit / 100 + 1) * ${n} END
    FROM bench.seed ORDER BY i`;
};

const assignmentRows = () => sql`
  INSERT INTO address_assignments (address, pool, block, client_id, node, connection_id, during, end_reason,
    assigned_position, ended_position)
  SELECT address, '10.64.0.0/15', network(set_masklen(address, 26)), client_id, node, connection_id,
    tstzrange(begin, CASE WHEN NOT open THEN seen END), CASE WHEN NOT open THEN 'client' END, i, CASE WHEN NOT open THEN i END
  FROM bench.seed ORDER BY i`;

/** Of a thousand addresses that were given out one was claimed twice. */
const conflictRows = () => sql`
  INSERT INTO address_conflicts (address, position, at, node, client_id, connection_id, holder_position, holder_node, holder_client_id,
    holder_connection_id)
  SELECT address, i, begin, 'node-x', 'client-x', gen_random_uuid(), i, node, client_id, connection_id FROM bench.seed WHERE i % 1000 = 7`;

/** One address is a scanner's; floods are folded. */
const failureRows = (connections: number) => {
  const rows = Math.round((connections * SPREAD.failuresPerHundredConnections) / 100);
  return sql`
    INSERT INTO connection_failures (position, at, node, remote_address, client_id, status, reason, error_type, count)
    SELECT i, ${SPREAD_FROM}::timestamptz + make_interval(secs => 86400.0 * ${sql.lit(SPREAD.days)} * i / ${sql.lit(rows)}),
      bench.node(i % ${sql.lit(SPREAD.nodes)}),
      '198.51.0.0'::inet + floor(${sql.lit(SPREAD.failingAddresses)} * bench.r(i, 11) ^ 3)::bigint, NULL, status,
      CASE status WHEN 401 THEN 'unknown token' WHEN 403 THEN 'revoked' ELSE 'no free address' END,
      CASE WHEN status = 503 THEN 'connection' ELSE 'auth' END, CASE WHEN i % 50 = 0 THEN 1 + i % 1000 ELSE 1 END
    FROM (SELECT i, (ARRAY[401, 401, 401, 403, 503])[1 + i % 5] AS status FROM generate_series(1::bigint, ${sql.lit(rows)}) AS i) AS failed`;
};

const adminRows = () => sql`
  INSERT INTO admin_events (position, at, actor, type, subject_kind, subject_id, change)
  SELECT i, ${sql.lit(SPREAD_FROM)}::timestamptz + make_interval(secs => 86400.0 * ${sql.lit(SPREAD.days)} * i / rows),
    'admin-' || i % ${sql.lit(SPREAD.adminActors)}, (ARRAY['client.enrolled', 'client.updated', 'client.revoked'])[1 + i % 3],
    'client', bench.client(i % ${sql.lit(SPREAD.clients)}), CASE i % 3 WHEN 2 THEN '{}'::jsonb ELSE '{"name": "Somebody"}' END
  FROM (SELECT i, 5 * ${sql.lit(SPREAD.clients)} AS rows FROM generate_series(1::bigint, 5 * ${sql.lit(SPREAD.clients)}) AS i) AS numbered`;

/** The traffic table, and the hours that are summed up from it. */
async function loadTraffic(session: Session, samples: number, progress: (line: string) => void): Promise<void> {
  const { run } = session;
  const n = sql.lit(samples);
  const spacing = sql.lit(Math.round(1 + (EVENTS_PER_CONNECTION * SAMPLES_PER_WINDOW) / samples));
  const position = sql`(i / ${sql.lit(SAMPLES_PER_WINDOW)} * ${n} + k) * ${spacing}`;
  await run(sql`
    SELECT ensure_traffic_partitions(number * 1000000)
    FROM (SELECT max(${position}) AS last FROM bench.seed, (SELECT ${n} AS k) AS newest) AS positions,
      generate_series(0, last / 1000000) AS number`);
  await load(
    session,
    'traffic',
    sql`
      INSERT INTO traffic (position, connection_id, client_id, node, kind, window_start, window_end, bytes_in, bytes_out,
        packets_in, packets_out, rtt_ms, latency_p50_ms, latency_p95_ms, latency_p99_ms, loss_percent)
      SELECT ${position}, connection_id, client_id, node, 'window', ${sampleEnd(samples, sql`(k - 1)`)}, ${sampleEnd(samples, sql`k`)},
        unit, unit * 10, unit / 1000 + 1, unit / 100 + 1, 20, 21, 25, 40, 0
      FROM bench.seed, generate_series(1, ${n}) AS k`,
    progress,
  );
  await load(
    session,
    'traffic_hourly',
    sql`
      INSERT INTO traffic_hourly (hour, client_id, node, bytes_in, bytes_out, packets_in, packets_out)
      SELECT date_trunc('hour', window_end), client_id, node, sum(bytes_in), sum(bytes_out), sum(packets_in), sum(packets_out)
      FROM traffic GROUP BY 1, 2, 3`,
    progress,
  );
}

/** The same sums as those of the traffic table, from the seed: most connections are of one day. */
const dailyRows = (samples: number) => {
  const n = sql.lit(samples);
  return sql`
    INSERT INTO traffic_daily (day, client_id, node, bytes_in, bytes_out, packets_in, packets_out, connections)
    SELECT day, client_id, node, sum(unit * windows), sum(unit * 10 * windows), sum((unit / 1000 + 1) * windows),
      sum((unit / 100 + 1) * windows), count(*)
    FROM (
      SELECT i, begin::date AS day, client_id, node, unit, ${n} AS windows FROM bench.seed WHERE begin::date = seen::date
      UNION ALL
      SELECT i, (${sampleEnd(samples, sql`k`)})::date, client_id, node, unit, count(*)
      FROM bench.seed, generate_series(1, ${n}) AS k WHERE begin::date <> seen::date GROUP BY 1, 2, 3, 4, 5) AS days
    GROUP BY 1, 2, 3`;
};

/**
 * Spools with everything that can happen to their events, and the newest part of the log; what was before it counts as
 * dropped by retention.
 */
function* logRows(last: number): Generator<RawBuilder<unknown>> {
  const { nodes, spoolsPerNode } = SPREAD;
  const eventsPerSpool = Math.floor(last / (nodes * spoolsPerNode));
  const eventsPerNode = Math.min(SPREAD.eventsPerNode, eventsPerSpool);
  yield sql`UPDATE event_checkpoint SET stream_seq = 1, position = ${sql.lit(last)}`;
  yield sql`UPDATE traffic_fold SET position = ${sql.lit(last)}`;
  yield sql`SELECT ensure_event_partitions(${sql.lit(last)}::bigint)`;
  yield sql`
    DO $$ DECLARE old text; BEGIN
      FOR old IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'events'::regclass
        AND (regexp_match(pg_get_expr(c.relpartbound, c.oid), $re$TO \\('(\\d+)$re$))[1]::bigint < ${sql.lit(last - nodes * eventsPerNode)}
      LOOP EXECUTE format('DROP TABLE %I', old); END LOOP;
    END $$`;
  yield sql`
    CREATE TABLE bench.spools AS
    SELECT node, spool, bench.epoch(node, spool) AS epoch, ${sql.lit(eventsPerSpool)}::bigint AS applied,
      spool = ${sql.lit(spoolsPerNode - 1)} AS current,
      CASE WHEN (node + spool) % 10 = 0 THEN 3 ELSE 0 END AS lost, CASE WHEN (node + spool) % 5 = 0 THEN 2 ELSE 0 END AS dead
    FROM generate_series(0::bigint, ${sql.lit(nodes)} - 1) AS node, generate_series(0::bigint, ${sql.lit(spoolsPerNode)} - 1) AS spool`;
  yield sql`
    INSERT INTO events (position, node, epoch, seq, incarnation, type, version, at, data, stream_seq)
    SELECT position - ${sql.lit(nodes * eventsPerNode)} + node * ${sql.lit(eventsPerNode)} + n, bench.node(node), epoch,
      applied - ${sql.lit(eventsPerNode)} + n, epoch, 'node.draining', 1, now(), '{"reason": "benchmark"}', n
    FROM event_checkpoint, bench.spools, generate_series(1, ${sql.lit(eventsPerNode)}) AS n WHERE current`;
  yield sql`
    INSERT INTO node_epochs (node, epoch, applied_seq, current, first_at, last_at)
    SELECT bench.node(node), epoch, applied, current, now(), now() FROM bench.spools`;
  yield sql`
    INSERT INTO event_gaps (node, epoch, from_seq, to_seq, replaced_by)
    SELECT bench.node(node), epoch, 11, 13, bench.epoch(node, spool + 1) FROM bench.spools WHERE lost > 0`;
  yield sql`
    INSERT INTO dead_letter (node, epoch, seq, type, payload, error_code, error)
    SELECT bench.node(node), epoch, 20 + n, 'connection.closed', '', 'INVALID_EVENT', 'benchmark'
    FROM bench.spools, generate_series(1, dead) AS n`;
  yield sql`
    INSERT INTO parked_events (node, epoch, seq, envelope, stream_seq)
    SELECT bench.node(node), epoch, applied + 1 + n, '{}', n FROM bench.spools, generate_series(1, 100) AS n WHERE current AND node < 10`;
  yield sql`
    INSERT INTO spool_reports (node, epoch, last_seq, reported_at)
    SELECT bench.node(node), epoch, applied + node % 3, now() FROM bench.spools`;
  yield sql`TRUNCATE epoch_counts`;
  yield sql`
    INSERT INTO epoch_counts (node, epoch, events, first_seq, last_seq, last_position, stopped_seq, last_recorded_at)
    SELECT bench.node(node), epoch, applied - lost - dead, 1, applied,
      CASE WHEN current THEN position ELSE 1 END, CASE WHEN NOT current AND node % 2 = 0 THEN applied END, now()
    FROM bench.spools, event_checkpoint`;
  yield sql`UPDATE event_checkpoint SET position = (SELECT sum(events) FROM epoch_counts)`;
}
