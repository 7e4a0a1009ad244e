import { type Kysely, sql } from 'kysely';
import { commentOn } from './comment-on.ts';

/** What the log means: connections, addresses, clients and totals, for SQL audits and metrics. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await createConnectionTables(db);
  await createLedgerTables(db);
  await createTotals(db);
  await createQuestions(db);
}

async function createConnectionTables(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE nodes (
      node text PRIMARY KEY,
      epoch text NOT NULL,
      incarnation text NOT NULL,
      state text NOT NULL CHECK (state IN ('up', 'draining', 'stopped', 'lost')),
      software_version text,
      listen text,
      tunnel_mtu integer,
      started_at timestamptz,
      stopped_at timestamptz,
      lost_at timestamptz,
      last_event_at timestamptz NOT NULL
    );

    CREATE TABLE clients (
      client_id text PRIMARY KEY,
      name text,
      state text NOT NULL CHECK (state IN ('active', 'revoked')),
      enrolled_at timestamptz,
      updated_at timestamptz,
      revoked_at timestamptz
    );

    CREATE TABLE connections (
      connection_id uuid PRIMARY KEY,
      client_id text NOT NULL,
      node text NOT NULL,
      incarnation text NOT NULL,
      state text NOT NULL CHECK (state IN ('open', 'presumed', 'closed')),
      reason text CHECK (reason IN ('client', 'idle', 'revoked', 'drained', 'node_lost', 'error')),
      detail text,
      remote_address inet,
      remote_port integer,
      transport text,
      tunnel_mtu integer,
      established_at timestamptz,
      presumed_at timestamptz,
      closed_at timestamptz,
      duration_ms double precision,
      sampled_bytes_in bigint NOT NULL,
      sampled_bytes_out bigint NOT NULL,
      sampled_packets_in bigint NOT NULL,
      sampled_packets_out bigint NOT NULL,
      close_bytes_in bigint,
      close_bytes_out bigint,
      close_packets_in bigint,
      close_packets_out bigint,
      bytes_in bigint NOT NULL GENERATED ALWAYS AS (greatest(sampled_bytes_in, close_bytes_in)) STORED,
      bytes_out bigint NOT NULL GENERATED ALWAYS AS (greatest(sampled_bytes_out, close_bytes_out)) STORED,
      packets_in bigint NOT NULL GENERATED ALWAYS AS (greatest(sampled_packets_in, close_packets_in)) STORED,
      packets_out bigint NOT NULL GENERATED ALWAYS AS (greatest(sampled_packets_out, close_packets_out)) STORED,
      CHECK ((state = 'closed') = (closed_at IS NOT NULL) AND (state = 'open') = (reason IS NULL))
    );
    CREATE INDEX connections_unfinished ON connections (node, incarnation) WHERE state <> 'closed';
    CREATE INDEX connections_newest ON connections (established_at DESC NULLS LAST, connection_id);
    CREATE INDEX connections_client ON connections (client_id, established_at DESC NULLS LAST, connection_id);

    CREATE TABLE connection_failures (
      position bigint PRIMARY KEY,
      at timestamptz NOT NULL,
      node text NOT NULL,
      remote_address inet,
      client_id text,
      status integer NOT NULL,
      reason text NOT NULL,
      error_type text NOT NULL CHECK (error_type IN ('auth', 'connection')),
      count bigint NOT NULL
    );
    CREATE INDEX connection_failures_at ON connection_failures USING brin (at);

    CREATE TABLE traffic (
      position bigint NOT NULL,
      connection_id uuid NOT NULL,
      client_id text NOT NULL,
      node text NOT NULL,
      kind text NOT NULL CHECK (kind IN ('window', 'close')),
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
    );
    CREATE INDEX traffic_connection ON traffic (connection_id, window_end);
    CREATE INDEX traffic_window_end ON traffic USING brin (window_end)`.execute(db);

  const window = {
    window_start: 'Begin of the time window.',
    window_end: 'End of the time window.',
  };
  await commentOn(db, {
    nodes: {
      is: 'Data-plane nodes, as their newest events and the presence watch describe them.',
      columns: {
        node: 'Node id.',
        epoch: 'Its newest spool.',
        incarnation: 'Its newest process.',
        state: 'up, draining (takes no new tunnels), stopped (ended in order), lost (silent).',
        software_version: 'Version that the newest process named.',
        listen: 'UDP address and port that the newest process listens on.',
        tunnel_mtu: 'MTU of its tunnels, bytes.',
        started_at: 'When the newest process started.',
        stopped_at: 'When it ended in order.',
        lost_at: 'When the control plane declared it lost; null again once it is heard.',
        last_event_at: "Time of its newest event by the node's clock.",
      },
    },
    clients: {
      is: 'Enrolled clients, the revoked ones too.',
      columns: {
        client_id: 'Client id; the label of the metrics.',
        name: 'Name for people.',
        state: 'active or revoked.',
        enrolled_at: 'When it was enrolled.',
        updated_at: 'When its entry last changed.',
        revoked_at: 'When it was revoked.',
      },
    },
    connections: {
      is: 'Every connection (one tunnel of one client), from its establishment to its end. In: from the client, out: to it.',
      columns: {
        connection_id: 'Appears in every event of the connection.',
        client_id: 'Whose tunnel it is.',
        node: 'Node that terminated it.',
        incarnation: 'Process of that node.',
        state: 'open; presumed: its node is silent, so it is taken for closed until the node is heard; closed.',
        reason: 'Why it ended: client, idle, revoked, drained, node_lost, error. Null while it is open.',
        detail: 'More about the end, for people.',
        remote_address: "The client's outer address.",
        remote_port: "The client's outer UDP port.",
        transport: 'http3, http2 or webtransport.',
        tunnel_mtu: 'MTU of the tunnel, bytes.',
        established_at: 'Begin; null when its establishment was never reported.',
        presumed_at: 'When it was last presumed closed; null when it never was.',
        closed_at:
          'End. Without a report of it: the last sign of life of the node process, or the end of its block that was reclaimed.',
        duration_ms: 'From establishment to end, milliseconds.',
        sampled_bytes_in: 'Bytes of inner IP packets from the client, sum of the traffic windows.',
        sampled_bytes_out: 'Bytes of inner IP packets to the client, sum of the traffic windows.',
        sampled_packets_in: 'Inner IP packets from the client, sum of the traffic windows.',
        sampled_packets_out: 'Inner IP packets to the client, sum of the traffic windows.',
        close_bytes_in: 'Bytes from the client as the report of the end totals them; null without one.',
        close_bytes_out: 'Bytes to the client as the report of the end totals them; null without one.',
        close_packets_in: 'Packets from the client as the report of the end totals them; null without one.',
        close_packets_out: 'Packets to the client as the report of the end totals them; null without one.',
        bytes_in: 'Bytes of inner IP packets from the client: the greater of both sums.',
        bytes_out: 'Bytes of inner IP packets to the client: the greater of both sums.',
        packets_in: 'Inner IP packets from the client: the greater of both sums.',
        packets_out: 'Inner IP packets to the client: the greater of both sums.',
      },
    },
    connection_failures: {
      is: 'Connections that were refused or broke before they were established.',
      columns: {
        position: 'The event in the log.',
        at: 'When it failed; of a folded flood, when it was reported.',
        node: 'Node that reports it.',
        remote_address: "The client's outer address.",
        client_id: 'Known only where the token was.',
        status: 'HTTP status of the answer; 0 where it broke before one.',
        reason: 'What was wrong.',
        error_type: 'auth (401 and 403) or connection.',
        count: 'How many failures the row stands for.',
      },
    },
    traffic: {
      is: 'What each connection moved in each window. The sum of its rows is what the connection moved in all.',
      columns: {
        position: 'The event in the log.',
        connection_id: 'The connection.',
        client_id: 'Its client.',
        node: 'Its node.',
        kind: 'window, or close for what the report of the end counts beyond all windows.',
        ...window,
        bytes_in: 'Bytes of inner IP packets from the client.',
        bytes_out: 'Bytes of inner IP packets to the client.',
        packets_in: 'Inner IP packets from the client.',
        packets_out: 'Inner IP packets to the client.',
        rtt_ms: 'Smoothed round-trip time of the QUIC path, milliseconds; null when not measured.',
        latency_p50_ms: 'Median latency of the echo probes, milliseconds; null when none was answered.',
        latency_p95_ms: '95th percentile of the same, milliseconds.',
        latency_p99_ms: '99th percentile of the same, milliseconds.',
        loss_percent: 'Echo probes that were not answered, percent; null while the client never answered one.',
      },
    },
  });
}

async function createLedgerTables(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE ip_ledger (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      position bigint NOT NULL,
      event_node text NOT NULL,
      event_epoch text NOT NULL,
      event_seq bigint NOT NULL,
      event_type text NOT NULL,
      at timestamptz NOT NULL,
      entry text NOT NULL
        CHECK (entry IN ('granted', 'renewed', 'returned', 'reclaimed', 'assigned', 'released', 'conflict')),
      node text NOT NULL,
      pool cidr NOT NULL,
      block cidr NOT NULL,
      address inet,
      client_id text,
      connection_id uuid,
      lease_end timestamptz,
      reason text
    );
    CREATE INDEX ip_ledger_address ON ip_ledger (address, at) WHERE address IS NOT NULL;
    CREATE INDEX ip_ledger_block ON ip_ledger (block, at) WHERE address IS NULL;
    CREATE INDEX ip_ledger_position ON ip_ledger (position);
    CREATE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN RAISE EXCEPTION 'ip_ledger is append-only'; END $$;
    CREATE TRIGGER ip_ledger_append_only BEFORE UPDATE OR DELETE ON ip_ledger
      FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change();

    CREATE TABLE block_grants (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      block cidr NOT NULL,
      pool cidr NOT NULL,
      node text NOT NULL,
      during tstzrange NOT NULL,
      lease_end timestamptz NOT NULL,
      end_reason text CHECK (end_reason IN ('returned', 'reclaimed')),
      granted_position bigint NOT NULL,
      ended_position bigint,
      EXCLUDE USING gist (block inet_ops WITH &&, during WITH &&)
    );
    CREATE INDEX block_grants_node ON block_grants (node, block);
    CREATE UNIQUE INDEX block_grants_open ON block_grants (block) WHERE end_reason IS NULL;

    CREATE TABLE address_assignments (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      address inet NOT NULL,
      pool cidr NOT NULL,
      block cidr NOT NULL,
      client_id text NOT NULL,
      node text NOT NULL,
      connection_id uuid NOT NULL,
      during tstzrange NOT NULL CHECK (NOT isempty(during) AND lower(during) IS NOT NULL),
      end_reason text,
      assigned_position bigint NOT NULL UNIQUE,
      ended_position bigint,
      EXCLUDE USING gist (address inet_ops WITH =, during WITH &&)
    );
    CREATE INDEX address_assignments_connection ON address_assignments (connection_id);
    CREATE INDEX address_assignments_client ON address_assignments (client_id);
    CREATE INDEX address_assignments_open ON address_assignments (node, block) WHERE upper_inf(during);

    CREATE TABLE held (
      pool cidr NOT NULL,
      address inet NOT NULL,
      block cidr NOT NULL,
      client_id text NOT NULL,
      node text NOT NULL,
      connection_id uuid NOT NULL,
      since timestamptz NOT NULL,
      released_at timestamptz,
      UNIQUE (pool, address)
    );

    CREATE TABLE address_conflicts (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      address inet NOT NULL,
      position bigint NOT NULL,
      at timestamptz NOT NULL,
      node text NOT NULL,
      client_id text NOT NULL,
      connection_id uuid NOT NULL,
      holder_position bigint NOT NULL,
      holder_node text NOT NULL,
      holder_client_id text NOT NULL,
      holder_connection_id uuid NOT NULL,
      recorded_at timestamptz NOT NULL DEFAULT now()
    )`.execute(db);

  await commentOn(db, {
    ip_ledger: {
      is: 'Append-only: everything that was ever done with blocks and addresses, each entry with its event.',
      columns: {
        id: 'Order of the entries.',
        position: 'The event in the log.',
        event_node: 'Identity of the event: its sender,',
        event_epoch: 'the spool of the sender,',
        event_seq: 'and the number in that spool.',
        event_type:
          'Type of the event; a release can also follow from node.started, block.reclaimed or block.returned.',
        at: 'When it took effect.',
        entry: 'granted, renewed, returned, reclaimed (blocks); assigned, released, conflict (addresses).',
        node: 'Node that holds or held the block.',
        pool: 'Pool of the block.',
        block: 'The block.',
        address: 'The address; null for entries about a whole block.',
        client_id: 'Client that the address was given to.',
        connection_id: 'Its connection.',
        lease_end: 'End of the lease, for entries about a block.',
        reason: 'Why an address was released.',
      },
    },
    block_grants: {
      is: 'Which node held which block of which pool, and when. Grants never overlap.',
      columns: {
        id: 'Number of the grant.',
        block: 'The block.',
        pool: 'Its pool.',
        node: 'The node that held it.',
        during: 'When; without upper end while it is held.',
        lease_end: 'Until when it is or was leased.',
        end_reason: 'returned or reclaimed; null while it is held.',
        granted_position: 'Event that granted it.',
        ended_position: 'Event that ended it.',
      },
    },
    address_assignments: {
      is: 'Who held which address when. Assignments of one address never overlap.',
      columns: {
        id: 'Number of the assignment.',
        address: 'The address.',
        pool: 'Its pool.',
        block: 'Its block.',
        client_id: 'Client that held it.',
        node: 'Node that gave it.',
        connection_id: 'Connection that it was given for.',
        during: 'When; without upper end while it is held.',
        end_reason: 'Why it ended: the reason of the connection, or returned or reclaimed for a block that ended.',
        assigned_position: 'Event that assigned it.',
        ended_position: 'Event that gave the present end.',
      },
    },
    held: {
      is: 'Addresses that are in use or rest after use; the newest holder of each.',
      columns: {
        pool: 'Pool of the address.',
        address: 'The address.',
        block: 'Its block.',
        client_id: 'Client that holds or held it.',
        node: 'Node that gave it.',
        connection_id: 'Connection that it was given for.',
        since: 'When it was given.',
        released_at: 'When it was released: it rests for 60 s from then. Null while it is held.',
      },
    },
    address_conflicts: {
      is: 'Assignments that overlapped one that was there before. They are not in address_assignments. Worth an alert.',
      columns: {
        id: 'Number of the conflict.',
        address: 'The address.',
        position: 'Event of the refused assignment.',
        at: 'Its time.',
        node: 'Its node.',
        client_id: 'Its client.',
        connection_id: 'Its connection.',
        holder_position: 'Event of the assignment that was there before.',
        holder_node: 'Its node.',
        holder_client_id: 'Its client.',
        holder_connection_id: 'Its connection.',
        recorded_at: 'When the conflict was found.',
      },
    },
  });
}

async function createTotals(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE event_counters (
      name text NOT NULL,
      label text NOT NULL,
      value bigint NOT NULL,
      PRIMARY KEY (name, label)
    );
    INSERT INTO event_counters (name, label, value) VALUES
      ('connections', 'established', 0), ('connections', 'failed', 0), ('connections', 'closed', 0),
      ('errors', 'connection', 0), ('errors', 'packet', 0), ('errors', 'auth', 0), ('errors', 'other', 0);

    CREATE TABLE client_totals (
      client_id text PRIMARY KEY,
      bytes_sent bigint NOT NULL DEFAULT 0,
      bytes_received bigint NOT NULL DEFAULT 0,
      packets_sent bigint NOT NULL DEFAULT 0,
      packets_received bigint NOT NULL DEFAULT 0,
      folded_bytes_sent bigint NOT NULL DEFAULT 0,
      folded_bytes_received bigint NOT NULL DEFAULT 0,
      folded_packets_sent bigint NOT NULL DEFAULT 0,
      folded_packets_received bigint NOT NULL DEFAULT 0,
      last_seen timestamptz NOT NULL
    );

    CREATE TABLE client_histograms (
      client_id text NOT NULL,
      family text NOT NULL CHECK (family IN ('latency_ms', 'connection_duration_seconds')),
      quantile text NOT NULL CHECK (quantile IN ('', '0.5', '0.95', '0.99')),
      buckets bigint[] NOT NULL,
      sum double precision NOT NULL,
      count bigint NOT NULL,
      folded_buckets bigint[],
      folded_sum double precision NOT NULL DEFAULT 0,
      folded_count bigint NOT NULL DEFAULT 0,
      PRIMARY KEY (client_id, family, quantile)
    );

    CREATE TABLE client_gauges (
      connection_id uuid PRIMARY KEY,
      client_id text NOT NULL,
      node text NOT NULL,
      window_end timestamptz NOT NULL,
      rtt_ms double precision,
      throughput_in_mbps double precision NOT NULL,
      throughput_out_mbps double precision NOT NULL,
      loss_percent double precision
    );
    CREATE INDEX client_gauges_client ON client_gauges (client_id)`.execute(db);

  const total = 'in all; what the metric of the same name shows is this minus the folded part.';
  const folded = 'Part of the total that moved to client_id="_other" for good.';
  await commentOn(db, {
    event_counters: {
      is: 'Totals of the whole cluster.',
      columns: {
        name: 'connections, errors, or drops (packets).',
        label: 'Status of the connection, type of the error, or reason of the drop.',
        value: 'How many, since the database was made.',
      },
    },
    client_totals: {
      is: 'Traffic of each client: inner IP packets and their bytes.',
      columns: {
        client_id: 'Client id.',
        bytes_sent: `Bytes to the client ${total}`,
        bytes_received: `Bytes from the client ${total}`,
        packets_sent: `Packets to the client ${total}`,
        packets_received: `Packets from the client ${total}`,
        folded_bytes_sent: folded,
        folded_bytes_received: folded,
        folded_packets_sent: folded,
        folded_packets_received: folded,
        last_seen: "Time of the newest event of one of its connections, by the node's clock.",
      },
    },
    client_histograms: {
      is: 'Histograms of each client; the bounds of the buckets are in control-plane/projections/histogram-buckets.ts.',
      columns: {
        client_id: 'Client id.',
        family: 'latency_ms (milliseconds) or connection_duration_seconds (seconds).',
        quantile: '0.5, 0.95 or 0.99 for latency_ms, empty for the other.',
        buckets: 'Observations in each bucket by itself, not cumulative; the last one is above every bound.',
        sum: 'Sum of the observations, in the unit of the family.',
        count: 'Number of observations.',
        folded_buckets: folded,
        folded_sum: folded,
        folded_count: folded,
      },
    },
    client_gauges: {
      is: 'Newest traffic window of each open connection.',
      columns: {
        connection_id: 'The connection.',
        client_id: 'Its client.',
        node: 'Its node.',
        window_end: "End of the window by the node's clock.",
        rtt_ms: 'Smoothed round-trip time of the QUIC path, milliseconds; null when not measured.',
        throughput_in_mbps: 'Inner IP bytes from the client over the window, Mbit/s.',
        throughput_out_mbps: 'Inner IP bytes to the client over the window, Mbit/s.',
        loss_percent: 'Echo probes not answered, percent; null while the client never answered one.',
      },
    },
  });
}

/** What auditors ask. */
async function createQuestions(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE VIEW connection_history AS
      SELECT c.connection_id, c.client_id, c.node, c.state, c.established_at, c.closed_at, c.reason, c.detail,
        CASE WHEN c.duration_ms IS NULL THEN NULL ELSE c.duration_ms / 1000 END AS duration_seconds,
        c.transport, c.remote_address, c.remote_port,
        (SELECT array_agg(a.address ORDER BY a.assigned_position)
           FROM address_assignments a WHERE a.connection_id = c.connection_id) AS addresses,
        c.bytes_out AS bytes_sent, c.bytes_in AS bytes_received,
        c.packets_out AS packets_sent, c.packets_in AS packets_received
      FROM connections c;

    CREATE VIEW usage_daily AS
      SELECT (window_end AT TIME ZONE 'UTC')::date AS day, client_id, node,
        sum(bytes_out)::bigint AS bytes_sent, sum(bytes_in)::bigint AS bytes_received,
        sum(packets_out)::bigint AS packets_sent, sum(packets_in)::bigint AS packets_received,
        count(DISTINCT connection_id) AS connections
      FROM traffic GROUP BY 1, 2, 3;

    CREATE FUNCTION address_holders(address inet, at timestamptz)
      RETURNS TABLE (client_id text, node text, connection_id uuid, held_from timestamptz, held_until timestamptz,
        end_reason text, block cidr, pool cidr)
      LANGUAGE sql STABLE PARALLEL SAFE AS $$
        SELECT a.client_id, a.node, a.connection_id, lower(a.during), upper(a.during), a.end_reason, a.block, a.pool
        FROM address_assignments a
        WHERE a.address = host(address_holders.address)::inet AND a.during @> address_holders.at
      $$;
    COMMENT ON FUNCTION address_holders(inet, timestamptz) IS
      'Who held the address at that moment: client, node, connection, from when until when (null: still), and why it ended.'
    `.execute(db);
  await commentOn(
    db,
    {
      connection_history: {
        is: 'Every connection for people: begin, end, reason, addresses and traffic. Sent: to the client, received: from it.',
        columns: {
          connection_id: 'The connection.',
          client_id: 'Its client.',
          node: 'Its node.',
          state: 'open, presumed or closed.',
          established_at: 'Begin.',
          closed_at: 'End.',
          reason: 'Why it ended.',
          detail: 'More about the end.',
          duration_seconds: 'From begin to end, seconds.',
          transport: 'http3, http2 or webtransport.',
          remote_address: "The client's outer address.",
          remote_port: "The client's outer UDP port.",
          addresses: 'Addresses that it held, in the order in which it got them.',
          bytes_sent: 'Bytes of inner IP packets to the client.',
          bytes_received: 'Bytes of inner IP packets from the client.',
          packets_sent: 'Inner IP packets to the client.',
          packets_received: 'Inner IP packets from the client.',
        },
      },
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
          connections: 'Connections with traffic windows on that day.',
        },
      },
    },
    'VIEW',
  );
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    DROP FUNCTION address_holders(inet, timestamptz);
    DROP VIEW usage_daily, connection_history;
    DROP TABLE client_gauges, client_histograms, client_totals, event_counters;
    DROP TABLE address_conflicts, held, address_assignments, block_grants, ip_ledger;
    DROP FUNCTION refuse_ledger_change();
    DROP TABLE traffic, connection_failures, connections, clients, nodes`.execute(db);
}
