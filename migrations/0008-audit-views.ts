import { type Kysely, sql } from 'kysely';
import { commentOn, commentOnColumns } from './comment-on.ts';

/** What auditors read and nothing else: views, functions, and the role that may use them. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await createViews(db);
  await createFunctions(db);
  await createEpochProof(db);
  await createRole(db);
}

async function createViews(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE VIEW address_history AS
      SELECT a.address, a.client_id, a.node, a.connection_id, lower(a.during) AS held_from, upper(a.during) AS held_until,
        a.end_reason, a.block, a.pool, a.during
      FROM address_assignments a;

    CREATE OR REPLACE VIEW connection_history AS
      SELECT c.connection_id, c.client_id, c.node, c.state, c.established_at, c.closed_at, c.reason, c.detail,
        CASE WHEN c.duration_ms IS NULL THEN NULL ELSE c.duration_ms / 1000 END AS duration_seconds,
        c.transport, c.remote_address, c.remote_port,
        (SELECT array_agg(a.address ORDER BY a.assigned_position)
           FROM address_assignments a WHERE a.connection_id = c.connection_id) AS addresses,
        c.bytes_out AS bytes_sent, c.bytes_in AS bytes_received,
        c.packets_out AS packets_sent, c.packets_in AS packets_received, c.presumed_at
      FROM connections c;
    CREATE VIEW failed_authentications AS
      SELECT f.remote_address, f.at, f.count AS failures, f.node, f.client_id, f.status, f.reason, f.position
      FROM connection_failures f WHERE f.error_type = 'auth';

    CREATE VIEW admin_changes AS
      SELECT a.position, a.at, a.actor, a.type, a.subject_kind, a.subject_id, a.change FROM admin_events a;

    CREATE VIEW completeness AS
      SELECT node, epoch, e.current, c.first_seq, e.applied_seq AS last_seq, coalesce(c.events, 0) AS in_log,
        g.events AS lost, d.events AS dead_letters, p.events AS parked, u.events AS unexplained,
        e.first_at, e.last_at, c.last_recorded_at AS recorded_at,
        coalesce(nullif(concat_ws('; ',
          CASE WHEN g.events > 0 THEN format('%s lost (%s)', g.events, g.ranges) END,
          CASE WHEN d.events > 0 THEN format('%s in dead_letter (%s)', d.events, d.seqs) END,
          CASE WHEN p.events > 0 THEN format('%s parked, %s is awaited', p.events, e.applied_seq + 1) END,
          CASE WHEN u.events <> 0 THEN format('%s not accounted for', u.events) END,
          CASE WHEN NOT e.current AND c.stopped_seq IS DISTINCT FROM e.applied_seq
            THEN format('replaced: whether the spool held more than %s is unknown', e.applied_seq) END), ''),
          'complete') AS verdict
      FROM node_epochs e FULL JOIN epoch_counts c USING (node, epoch)
      CROSS JOIN LATERAL (
        SELECT coalesce(sum(to_seq - from_seq + 1), 0)::bigint AS events,
          string_agg(concat_ws('-', from_seq, nullif(to_seq, from_seq)), ', ' ORDER BY from_seq) AS ranges
        FROM event_gaps WHERE event_gaps.node = e.node AND event_gaps.epoch = e.epoch) g
      CROSS JOIN LATERAL (
        SELECT count(DISTINCT seq) AS events, string_agg(DISTINCT seq::text, ', ') AS seqs
        FROM dead_letter WHERE dead_letter.node = e.node AND dead_letter.epoch = e.epoch AND resolved_at IS NULL) d
      CROSS JOIN LATERAL (
        SELECT count(*) AS events FROM parked_events
        WHERE parked_events.node = e.node AND parked_events.epoch = e.epoch) p
      CROSS JOIN LATERAL (
        SELECT coalesce(e.applied_seq, 0) - coalesce(c.events, 0) - g.events - d.events AS events) u
      UNION ALL
      SELECT '*', '*', true, least(1, l.position), l.position, c.events, 0, d.events, 0, l.position - c.events,
        NULL, NULL, l.committed_at,
        coalesce(nullif(concat_ws('; ',
          CASE WHEN d.events > 0 THEN format('%s messages could not be read: see dead_letter', d.events) END,
          CASE WHEN l.position <> c.events THEN format('%s not accounted for', l.position - c.events) END), ''),
          'complete')
      FROM event_checkpoint l
      CROSS JOIN (SELECT coalesce(sum(events), 0)::bigint AS events FROM epoch_counts) c
      CROSS JOIN (SELECT count(*) AS events FROM dead_letter WHERE node IS NULL AND resolved_at IS NULL) d`.execute(db);
  await commentOn(
    db,
    {
      address_history: {
        is: 'Who held which address when. Assignments of one address never overlap. address_holders(address, at) asks for one moment.',
        columns: {
          address: 'The address.',
          client_id: 'Client that held it.',
          node: 'Node that gave it.',
          connection_id: 'Connection that it was given for.',
          held_from: 'Begin.',
          held_until: 'End; null while it is held.',
          end_reason: 'Why it ended: the reason of the connection, or returned or reclaimed for a block that ended.',
          block: 'Its block.',
          pool: 'Its pool.',
          during: 'Begin and end as a range, for @> and &&, which are quick together with the address.',
        },
      },
      failed_authentications: {
        is: 'Attempts that nodes refused with 401 or 403. failed_authentications_by_address(since, until) sums them up.',
        columns: {
          remote_address: 'Outer address that it came from.',
          at: 'When; of a folded flood, when it was reported.',
          failures: 'How many attempts the row stands for: floods from one address are folded.',
          node: 'Node that refused it.',
          client_id: 'Known only where the token was.',
          status: 'HTTP status of the answer, 401 or 403.',
          reason: 'What was wrong.',
          position: 'The event in the log.',
        },
      },
      admin_changes: {
        is: 'Changes to clients and pools, and who made them.',
        columns: {
          position: 'The event in the log.',
          at: 'When.',
          actor: "Name of the admin token; control-plane for the control plane's own decisions.",
          type: 'Type of the event, e.g. client.enrolled.',
          subject_kind: 'What was changed: client, pool.',
          subject_id: 'Which one.',
          change: 'The new values.',
        },
      },
      completeness: {
        is: 'For every spool of every node: which of its events are in the log, and where the others are. last_seq = in_log + lost + dead_letters + unexplained. The row of node * is the log as a whole: positions against events counted. It holds after old partitions of the log are dropped. epoch_proof(node, epoch) proves one spool from the log itself.',
        columns: {
          node: 'Node id; "control" for decisions of the control plane; * for the whole log.',
          epoch: 'The spool: made anew only when a node lost its state.',
          current: 'True for the newest spool of the node.',
          first_seq: 'Lowest number that is or was in the log; 1 unless the first events are lost.',
          last_seq: 'The watermark: the fate of every event up to this number is known. Of *: the newest position.',
          in_log: 'Events that entered the log, counted by Postgres as they did.',
          lost: 'Events that never came and never will: their spool was replaced.',
          dead_letters: 'Events that could not be applied and are set aside. Of *: messages that could not be read.',
          parked: 'Events beyond last_seq that wait for one before them.',
          unexplained: 'What the numbers before leave over. Anything but 0 is an error.',
          first_at: "The sender's time of the first event.",
          last_at: "The sender's time of the newest event.",
          recorded_at: 'When its newest event entered the log.',
          verdict: 'complete, or what is missing.',
        },
      },
    },
    'VIEW',
  );
  await commentOnColumns(db, {
    connection_history: { presumed_at: 'When its silent node made it count as closed; null when that never was.' },
  });
}

/** The longest session of each `session_span` but the last. */
const LONGEST = [
  '1 minute',
  '5 minutes',
  '30 minutes',
  '2 hours',
  '8 hours',
  '24 hours',
  '96 hours',
  '384 hours',
  '1536 hours',
];

/** Written out group by group, each condition is a range of connections_span, and Postgres can judge how many rows it has. */
const openSinceSpan = sql.join(
  [...LONGEST.map((longest) => sql`sessions_at.at - interval ${sql.lit(longest)}`), sql`'-infinity'`].map(
    (earliest, span) => sql`session_span(h.established_at, h.closed_at) = ${sql.lit(span)}
      AND h.established_at BETWEEN ${earliest} AND sessions_at.at AND h.closed_at > sessions_at.at`,
  ),
  sql` OR `,
);

async function createFunctions(db: Kysely<unknown>): Promise<void> {
  // Bodies that are bound here, to the views: they need no rights of their own, and no search_path leads them astray.
  await sql`
    CREATE OR REPLACE FUNCTION address_holders(address inet, at timestamptz)
      RETURNS TABLE (client_id text, node text, connection_id uuid, held_from timestamptz, held_until timestamptz,
        end_reason text, block cidr, pool cidr)
      LANGUAGE sql STABLE PARALLEL SAFE
      BEGIN ATOMIC
        SELECT a.client_id, a.node, a.connection_id, a.held_from, a.held_until, a.end_reason, a.block, a.pool
        FROM address_history a
        WHERE a.address = host(address_holders.address)::inet AND a.during @> address_holders.at;
      END;

    CREATE FUNCTION sessions_at(at timestamptz)
      RETURNS TABLE (connection_id uuid, client_id text, node text, remote_address inet, transport text,
        established_at timestamptz, closed_at timestamptz, presumed boolean, addresses inet[])
      LANGUAGE sql STABLE PARALLEL SAFE
      BEGIN ATOMIC
        SELECT h.connection_id, h.client_id, h.node, h.remote_address, h.transport, h.established_at, h.closed_at,
          h.state = 'presumed' AND h.presumed_at <= sessions_at.at, h.addresses
        FROM connection_history h
        WHERE h.established_at <= sessions_at.at
          AND (h.state <> 'closed' OR h.state = 'closed' AND (${openSinceSpan}));
      END;

    CREATE FUNCTION session_counts_at(at timestamptz) RETURNS TABLE (node text, sessions bigint, presumed bigint, clients bigint)
      LANGUAGE sql STABLE PARALLEL SAFE
      BEGIN ATOMIC
        SELECT s.node, count(*), count(*) FILTER (WHERE s.presumed), count(DISTINCT s.client_id)
        FROM sessions_at(session_counts_at.at) s GROUP BY s.node ORDER BY s.node;
      END;

    CREATE FUNCTION failed_authentications_by_address(since timestamptz, until timestamptz)
      RETURNS TABLE (remote_address inet, failures bigint, reports bigint, first_at timestamptz, last_at timestamptz,
        nodes text[], client_ids text[], reasons text[])
      LANGUAGE sql STABLE PARALLEL SAFE
      BEGIN ATOMIC
        SELECT f.remote_address, sum(f.failures)::bigint, count(*), min(f.at), max(f.at), array_agg(DISTINCT f.node),
          array_agg(DISTINCT f.client_id) FILTER (WHERE f.client_id IS NOT NULL), array_agg(DISTINCT f.reason)
        FROM failed_authentications f
        WHERE f.at >= failed_authentications_by_address.since AND f.at < failed_authentications_by_address.until
        GROUP BY f.remote_address ORDER BY 2 DESC, 1;
      END;

    COMMENT ON FUNCTION address_holders(inet, timestamptz) IS
      'Who held the address at that moment: client, node, connection, from when until when (null: still), and why it ended.';
    COMMENT ON FUNCTION sessions_at(timestamptz) IS
      'Sessions that were open at that moment, with the addresses that they ever held. presumed: their node was silent by then, so they may have been over.';
    COMMENT ON FUNCTION session_counts_at(timestamptz) IS
      'How many sessions each node had open at that moment, of how many clients; presumed: how many of them may have been over, because their node was silent by then.';
    COMMENT ON FUNCTION failed_authentications_by_address(timestamptz, timestamptz) IS
      'Failed authentications from since (inclusive) until (exclusive) by outer address, most first. failures: attempts, those of folded floods counted one by one; reports: events; client_ids: those whose token was known.';
    `.execute(db);
}

/** Reads the log, whose data is not for auditors, with the rights of its owner. */
async function createEpochProof(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE FUNCTION epoch_proof(node text, epoch text)
      RETURNS TABLE (from_seq bigint, to_seq bigint, events bigint, found text)
      LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
      BEGIN ATOMIC
        WITH logged AS (
          SELECT e.seq, e.position, e.seq - row_number() OVER (ORDER BY e.seq) AS island
          FROM events e WHERE e.node = epoch_proof.node AND e.epoch = epoch_proof.epoch
        ), kept AS (
          SELECT min(l.seq) AS from_seq, max(l.seq) AS to_seq, count(*) AS events, min(l.position) AS lowest,
            (min(ARRAY[l.seq, l.position]))[2] AS first
          FROM logged l GROUP BY l.island
        ), waiting AS (
          SELECT p.seq, p.seq - row_number() OVER (ORDER BY p.seq) AS island
          FROM parked_events p WHERE p.node = epoch_proof.node AND p.epoch = epoch_proof.epoch
        ), known AS (
          SELECT k.from_seq, k.to_seq, k.events, 'in the log' AS found FROM kept k
          UNION ALL
          SELECT min(w.seq), max(w.seq), count(*), 'parked' FROM waiting w GROUP BY w.island
          UNION ALL
          SELECT g.from_seq, g.to_seq, g.to_seq - g.from_seq + 1, 'lost'
          FROM event_gaps g WHERE g.node = epoch_proof.node AND g.epoch = epoch_proof.epoch
          UNION ALL
          SELECT d.seq, d.seq, 1, 'dead letter: ' || d.error_code
          FROM dead_letter d WHERE d.node = epoch_proof.node AND d.epoch = epoch_proof.epoch AND d.resolved_at IS NULL
        ), spool AS (
          SELECT n.applied_seq, coalesce(c.events, 0) - (SELECT coalesce(sum(k.events), 0) FROM kept k) AS gone,
            c.last_position < l.first AS all_gone, l.first > 1 AS any_gone
          FROM node_epochs n
          LEFT JOIN epoch_counts c ON c.node = n.node AND c.epoch = n.epoch
          CROSS JOIN (
            -- The lowest position that the oldest partition has room for.
            SELECT min((regexp_match(pg_get_expr(p.relpartbound, p.oid), 'FROM \\(''(\\d+)'))[1]::bigint) AS first
            FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhrelid WHERE i.inhparent = 'events'::regclass) l
          WHERE n.node = epoch_proof.node AND n.epoch = epoch_proof.epoch
        ), holes AS (
          SELECT lower(r.hole) AS from_seq, upper(r.hole) - 1 AS to_seq, upper(r.hole) - lower(r.hole) AS events
          FROM (
            SELECT unnest(int8multirange(int8range(1, greatest(s.applied_seq, k.last_seq), '[]')) - k.ranges) AS hole
            FROM spool s
            CROSS JOIN (SELECT coalesce(range_agg(int8range(k.from_seq, k.to_seq, '[]')), '{}') AS ranges, max(k.to_seq) AS last_seq
              FROM known k) k) r
        )
        SELECT k.from_seq, k.to_seq, k.events, k.found FROM known k
        UNION ALL
        SELECT h.from_seq, h.to_seq, h.events,
          CASE WHEN h.from_seq > s.applied_seq THEN 'awaited'
            -- Retention drops the oldest positions: nothing kept may precede what is gone, neither here nor in the log.
            WHEN s.any_gone AND s.gone = (SELECT sum(o.events) FROM holes o WHERE o.from_seq <= s.applied_seq)
              AND CASE WHEN after.first IS NULL THEN s.all_gone
                ELSE NOT EXISTS (SELECT FROM kept b WHERE b.to_seq < h.from_seq AND b.lowest < after.first) END
            THEN 'was in the log, not kept any more' ELSE 'not accounted for' END
        FROM holes h CROSS JOIN spool s
        LEFT JOIN LATERAL (SELECT k.first FROM kept k WHERE k.from_seq > h.to_seq ORDER BY k.from_seq LIMIT 1) after ON true
        ORDER BY 1, 2;
      END;
    REVOKE ALL ON FUNCTION epoch_proof(text, text) FROM PUBLIC;
    COMMENT ON FUNCTION epoch_proof(text, text) IS
      'Where the events of one spool are, range by range: in the log, parked, lost, a dead letter, awaited, was in the log but is not kept any more (then the ranges add up with the count of completeness), or not accounted for. It reads the log itself, so it takes as long as that has events of the spool.'
    `.execute(db);
}

/**
 * The role belongs to the whole server, so another database may have made it, may be making it right now, and may need it
 * when this one is gone. Who may not create roles leaves that to a superuser: `grant_to_auditor()` does the rest then.
 */
async function createRole(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE FUNCTION grant_to_auditor() RETURNS void LANGUAGE plpgsql AS $$
      BEGIN
        GRANT SELECT ON address_history, connection_history, usage_daily, failed_authentications, admin_changes, completeness
          TO masque_vpn_auditor;
        GRANT EXECUTE ON FUNCTION address_holders(inet, timestamptz), sessions_at(timestamptz), session_counts_at(timestamptz),
          session_span(timestamptz, timestamptz), failed_authentications_by_address(timestamptz, timestamptz),
          epoch_proof(text, text) TO masque_vpn_auditor;
      END $$;
    COMMENT ON FUNCTION grant_to_auditor() IS
      'Gives the role masque_vpn_auditor its rights: the views and functions for auditors, nothing else.';
    DO $$
      BEGIN
        IF to_regrole('masque_vpn_auditor') IS NULL THEN
          CREATE ROLE masque_vpn_auditor NOLOGIN;
        END IF;
      EXCEPTION
        WHEN duplicate_object OR unique_violation THEN NULL;
        WHEN insufficient_privilege THEN
          RAISE NOTICE 'role masque_vpn_auditor is missing, and this user may not create it';
      END $$;
    DO $$
      BEGIN
        IF to_regrole('masque_vpn_auditor') IS NOT NULL THEN
          PERFORM grant_to_auditor();
        END IF;
      END $$`.execute(db);
}

/** The role stays: other databases of the server may use it. So does the new column of connection_history. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    DROP FUNCTION grant_to_auditor(), epoch_proof(text, text), failed_authentications_by_address(timestamptz, timestamptz),
      session_counts_at(timestamptz), sessions_at(timestamptz);
    CREATE OR REPLACE FUNCTION address_holders(address inet, at timestamptz)
      RETURNS TABLE (client_id text, node text, connection_id uuid, held_from timestamptz, held_until timestamptz,
        end_reason text, block cidr, pool cidr)
      LANGUAGE sql STABLE PARALLEL SAFE AS $$
        SELECT a.client_id, a.node, a.connection_id, lower(a.during), upper(a.during), a.end_reason, a.block, a.pool
        FROM address_assignments a
        WHERE a.address = host(address_holders.address)::inet AND a.during @> address_holders.at
      $$;
    DROP VIEW completeness, admin_changes, failed_authentications, address_history`.execute(db);
}
