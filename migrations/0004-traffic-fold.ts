import { type Kysely, sql } from 'kysely';
import { commentOn } from './comment-on.ts';

/** As of the partitions of `events`, so that both can be dropped alike. */
const PARTITION_SIZE = 1_000_000;
const PARTITIONS_AHEAD = 2;

/**
 * Samples become cheap: each is one row of `traffic`, partitioned like the log, and what follows from it for connections,
 * clients, hours and days is folded in later, for many rows at once.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  // Tables that were there before can be large.
  await sql`SET LOCAL statement_timeout = 0`.execute(db);
  await partitionTraffic(db);
  await createRollups(db);
  await sql`
    DROP TABLE client_gauges;
    ALTER TABLE client_histograms ALTER COLUMN sum TYPE numeric, ALTER COLUMN folded_sum TYPE numeric;
    CREATE INDEX connections_presumed ON connections (node) WHERE state = 'presumed'`.execute(db);
}

async function partitionTraffic(db: Kysely<unknown>): Promise<void> {
  await sql`
    ALTER TABLE traffic RENAME TO traffic_before;
    ALTER TABLE traffic_before RENAME CONSTRAINT traffic_pkey TO traffic_before_pkey;
    DROP INDEX traffic_connection, traffic_window_end;

    CREATE TABLE traffic (
      position bigint NOT NULL,
      connection_id uuid NOT NULL,
      client_id text NOT NULL,
      node text NOT NULL,
      kind text NOT NULL CHECK (kind IN ('window', 'late', 'close')),
      window_start timestamptz NOT NULL,
      window_end timestamptz NOT NULL,
      bytes_in bigint NOT NULL,
      bytes_out bigint NOT NULL,
      packets_in bigint NOT NULL,
      packets_out bigint NOT NULL,
      rtt_ms double precision,
      latency_p50_ms double precision,
      latency_p95_ms double precision,
      latency_p99_ms double precision,
      loss_percent double precision,
      PRIMARY KEY (position, connection_id)
    ) PARTITION BY RANGE (position);
    CREATE INDEX traffic_window_end ON traffic USING brin (window_end) WITH (autosummarize = on);

    CREATE FUNCTION ensure_traffic_partitions(through bigint) RETURNS bigint LANGUAGE plpgsql AS $$
    DECLARE
      size CONSTANT bigint := ${sql.lit(PARTITION_SIZE)};
      schema CONSTANT text := (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = to_regclass('traffic'));
      parent CONSTANT text := schema || '.traffic';
      first bigint;
      name text;
    BEGIN
      FOR number IN (through / size) .. (through / size + ${sql.lit(PARTITIONS_AHEAD)}) LOOP
        name := format('%s.traffic_%s', schema, lpad(number::text, 6, '0'));
        first := number * size;
        IF to_regclass(name) IS NULL THEN
          EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name, parent);
          EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)', parent, name, first, first + size);
        END IF;
      END LOOP;
      RETURN first + size - 1;
    END $$;
    COMMENT ON FUNCTION ensure_traffic_partitions(bigint) IS
      'Makes the partitions of traffic (the one that the search path finds) that hold position "through" and those ahead of it; returns the highest position they hold.';

    SELECT ensure_traffic_partitions(number * ${sql.lit(PARTITION_SIZE)}::bigint)
      FROM event_checkpoint, generate_series(0, position / ${sql.lit(PARTITION_SIZE)}) AS number;
    DROP VIEW usage_daily;
    INSERT INTO traffic SELECT * FROM traffic_before ORDER BY position, connection_id;
    DROP TABLE traffic_before`.execute(db);
}

async function createRollups(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE traffic_fold (
      singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
      position bigint NOT NULL
    );
    INSERT INTO traffic_fold (position) SELECT position FROM event_checkpoint;

    ALTER TABLE connections
      ALTER COLUMN sampled_bytes_in SET DEFAULT 0, ALTER COLUMN sampled_bytes_out SET DEFAULT 0,
      ALTER COLUMN sampled_packets_in SET DEFAULT 0, ALTER COLUMN sampled_packets_out SET DEFAULT 0,
      ADD COLUMN traffic_days datemultirange NOT NULL DEFAULT '{}';
    UPDATE connections c SET traffic_days = t.days
      FROM (SELECT connection_id, range_agg(daterange(day, day, '[]')) AS days
        FROM (SELECT DISTINCT connection_id, (window_end AT TIME ZONE 'UTC')::date AS day FROM traffic) d
        GROUP BY connection_id) t
      WHERE c.connection_id = t.connection_id;

    CREATE TABLE traffic_hourly (
      hour timestamptz NOT NULL,
      client_id text NOT NULL,
      node text NOT NULL,
      bytes_in bigint NOT NULL,
      bytes_out bigint NOT NULL,
      packets_in bigint NOT NULL,
      packets_out bigint NOT NULL,
      PRIMARY KEY (client_id, hour, node)
    );
    CREATE INDEX traffic_hourly_hour ON traffic_hourly (hour);
    INSERT INTO traffic_hourly
      SELECT date_trunc('hour', window_end, 'UTC'), client_id, node,
        sum(bytes_in), sum(bytes_out), sum(packets_in), sum(packets_out)
      FROM traffic GROUP BY 1, 2, 3;

    CREATE TABLE traffic_daily (
      day date NOT NULL,
      client_id text NOT NULL,
      node text NOT NULL,
      bytes_in bigint NOT NULL,
      bytes_out bigint NOT NULL,
      packets_in bigint NOT NULL,
      packets_out bigint NOT NULL,
      connections bigint NOT NULL,
      PRIMARY KEY (client_id, day, node)
    );
    CREATE INDEX traffic_daily_day ON traffic_daily (day);
    INSERT INTO traffic_daily
      SELECT (window_end AT TIME ZONE 'UTC')::date, client_id, node,
        sum(bytes_in), sum(bytes_out), sum(packets_in), sum(packets_out), count(DISTINCT connection_id)
      FROM traffic GROUP BY 1, 2, 3;

    CREATE VIEW usage_daily AS
      SELECT day, client_id, node, bytes_out AS bytes_sent, bytes_in AS bytes_received,
        packets_out AS packets_sent, packets_in AS packets_received, connections
      FROM traffic_daily`.execute(db);

  const moved = {
    bytes_in: 'Bytes of inner IP packets from the client.',
    bytes_out: 'Bytes of inner IP packets to the client.',
    packets_in: 'Inner IP packets from the client.',
    packets_out: 'Inner IP packets to the client.',
  };
  await commentOn(db, {
    traffic: {
      is: 'What each connection moved in each window. The sum of its rows is what the connection moved in all.',
      columns: {
        position: 'The event in the log.',
        connection_id: 'The connection.',
        client_id: 'Its client.',
        node: 'Its node.',
        kind: 'window; late: a window after the report of the end, with what it counts beyond it; close: what the report of the end counts beyond all windows before it.',
        window_start: 'Begin of the time window.',
        window_end: 'End of the time window.',
        ...moved,
        rtt_ms: 'Smoothed round-trip time of the QUIC path, milliseconds; null when not measured.',
        latency_p50_ms: 'Median latency of the echo probes, milliseconds; null when none was answered.',
        latency_p95_ms: '95th percentile of the same, milliseconds.',
        latency_p99_ms: '99th percentile of the same, milliseconds.',
        loss_percent: 'Echo probes that were not answered, percent; null while the client never answered one.',
      },
    },
    traffic_fold: {
      is: 'How far traffic is folded into connections, client_totals, client_histograms, traffic_hourly and traffic_daily. One row.',
      columns: {
        singleton: 'Always true: keeps the table at one row.',
        position: 'Rows of traffic up to this position of the log are folded in, later ones are not.',
      },
    },
    traffic_hourly: {
      is: 'Traffic of each client on each node in each hour.',
      columns: {
        hour: 'Begin of the hour (UTC) in which the windows ended.',
        client_id: 'The client.',
        node: 'The node.',
        ...moved,
      },
    },
    traffic_daily: {
      is: 'Traffic of each client on each node and day.',
      columns: {
        day: 'Day in UTC on which the windows ended.',
        client_id: 'The client.',
        node: 'The node.',
        ...moved,
        connections: 'Connections with rows in traffic on that day.',
      },
    },
  });
  await commentOn(
    db,
    {
      usage_daily: {
        is: 'Traffic of each client on each node and day. Sent: to the client, received: from it.',
        columns: {
          day: 'Day in UTC on which the windows ended.',
          client_id: 'The client.',
          node: 'The node.',
          bytes_sent: 'Bytes of inner IP packets to the client.',
          bytes_received: 'Bytes of inner IP packets from the client.',
          packets_sent: 'Inner IP packets to the client.',
          packets_received: 'Inner IP packets from the client.',
          connections: 'Connections with traffic on that day.',
        },
      },
    },
    'VIEW',
  );
  await sql`
    COMMENT ON COLUMN connections.traffic_days IS 'Days (UTC) on which the connection has rows in traffic that are folded in.'`.execute(
    db,
  );
}
