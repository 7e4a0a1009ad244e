import { type Kysely, sql } from 'kysely';
import { commentOn } from './comment-on.ts';

/** What is kept for auditors beside what the log means anyway, and the indexes of their questions. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // Counting and indexing an existing log takes longer than any statement of the running control plane may.
  await sql`SET LOCAL statement_timeout = 0`.execute(db);
  await createAdminEvents(db);
  await createEpochCounts(db);
  await createIndexes(db);
}

async function createAdminEvents(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE admin_events (
      position bigint PRIMARY KEY,
      at timestamptz NOT NULL,
      actor text NOT NULL,
      type text NOT NULL,
      subject_kind text NOT NULL,
      subject_id text NOT NULL,
      change jsonb NOT NULL
    );
    CREATE INDEX admin_events_subject ON admin_events (subject_kind, subject_id, position);
    CREATE INDEX admin_events_actor ON admin_events (actor, at);
    CREATE INDEX admin_events_at ON admin_events (at);
    INSERT INTO admin_events (position, at, actor, type, subject_kind, subject_id, change)
      SELECT position, at, data->>'actor', type, 'client', data->>'clientId',
        -- As those of version 1 are read now.
        CASE WHEN type <> 'client.revoked' THEN '{"pool": "default"}'::jsonb ELSE '{}' END || data - '{actor,clientId}'::text[]
      FROM events WHERE type IN ('client.enrolled', 'client.updated', 'client.revoked')`.execute(db);
  await commentOn(db, {
    admin_events: {
      is: 'Every event that somebody caused by name: changes to clients and pools. Auditors read it as admin_changes.',
      columns: {
        position: 'The event in the log.',
        at: 'When.',
        actor: "Name of the admin token; control-plane for the control plane's own decisions.",
        type: 'Type of the event, e.g. client.enrolled.',
        subject_kind: 'What was changed: client, pool.',
        subject_id: 'Which one.',
        change: 'The rest of what the event says. No event holds a token or its hash.',
      },
    },
  });
}

/**
 * Postgres itself counts what enters the log, spool by spool, whoever writes it and by whatever way: that is what the
 * watermarks, gaps and dead letters are checked against, also when the oldest part of the log is dropped. It costs 2 us an event
 * in batches of 1,000.
 */
async function createEpochCounts(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE epoch_counts (
      node text NOT NULL,
      epoch text NOT NULL,
      events bigint NOT NULL,
      first_seq bigint NOT NULL,
      last_seq bigint NOT NULL,
      last_position bigint NOT NULL,
      stopped_seq bigint,
      last_recorded_at timestamptz NOT NULL,
      PRIMARY KEY (node, epoch)
    ) WITH (fillfactor = 70);
    CREATE FUNCTION count_logged_events() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        INSERT INTO epoch_counts AS c (node, epoch, events, first_seq, last_seq, last_position, stopped_seq, last_recorded_at)
          SELECT node, epoch, count(*), min(seq), max(seq), (max(ARRAY[seq, position]))[2],
            max(seq) FILTER (WHERE type = 'node.stopped'), max(recorded_at)
          FROM logged GROUP BY node, epoch
        ON CONFLICT (node, epoch) DO UPDATE SET
          events = c.events + excluded.events,
          first_seq = least(c.first_seq, excluded.first_seq),
          last_seq = greatest(c.last_seq, excluded.last_seq),
          last_position = CASE WHEN excluded.last_seq > c.last_seq THEN excluded.last_position ELSE c.last_position END,
          stopped_seq = greatest(c.stopped_seq, excluded.stopped_seq),
          last_recorded_at = greatest(c.last_recorded_at, excluded.last_recorded_at);
        RETURN NULL;
      END $$;
    COMMENT ON FUNCTION count_logged_events() IS 'Adds the events of one INSERT into the log to epoch_counts.';
    CREATE TRIGGER events_counted AFTER INSERT ON events REFERENCING NEW TABLE AS logged
      FOR EACH STATEMENT EXECUTE FUNCTION count_logged_events();
    INSERT INTO epoch_counts
      SELECT node, epoch, count(*), min(seq), max(seq), (max(ARRAY[seq, position]))[2],
        max(seq) FILTER (WHERE type = 'node.stopped'), max(recorded_at)
      FROM events GROUP BY node, epoch`.execute(db);
  await commentOn(db, {
    epoch_counts: {
      is: 'How many events of each spool ever entered the log, counted by a trigger of it; dropping old partitions changes nothing here.',
      columns: {
        node: 'Node id, or "control".',
        epoch: 'The spool.',
        events: 'Events in the log, those included that are not kept any more.',
        first_seq: 'Lowest number of them.',
        last_seq: 'Highest number of them.',
        last_position: 'Position in the log of the one with the highest number.',
        stopped_seq: 'Number of the last node.stopped; null without one.',
        last_recorded_at: 'When the newest of them entered the log.',
      },
    },
  });
}

async function createIndexes(db: Kysely<unknown>): Promise<void> {
  // Sessions are grouped by how long they lasted, so that all that were open at a moment began within the group's
  // longest before it. That is a btree, written once, at the end: 2.7 us a session, where a range index took 14, twice.
  await sql`
    CREATE FUNCTION session_span(established_at timestamptz, closed_at timestamptz) RETURNS integer
      LANGUAGE sql IMMUTABLE PARALLEL SAFE
      RETURN width_bucket(extract(epoch FROM closed_at - established_at)::double precision,
        ARRAY[60, 300, 1800, 7200, 28800, 86400, 345600, 1382400, 5529600]::double precision[]);
    COMMENT ON FUNCTION session_span(timestamptz, timestamptz) IS
      'Group of sessions that lasted about as long: 0 under a minute, then up to 5 min, 30 min, 2 h, 8 h, 1, 4, 16, 64 days; 9 beyond.';
    CREATE INDEX connections_span ON connections (session_span(established_at, closed_at), established_at, closed_at)
      WHERE state = 'closed';
    CREATE INDEX connection_failures_auth ON connection_failures (remote_address, at) WHERE error_type = 'auth';
    CREATE INDEX dead_letter_identity ON dead_letter (node, epoch, seq)`.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    DROP INDEX dead_letter_identity, connection_failures_auth, connections_span;
    DROP FUNCTION session_span(timestamptz, timestamptz);
    DROP TRIGGER events_counted ON events;
    DROP FUNCTION count_logged_events();
    DROP TABLE epoch_counts, admin_events`.execute(db);
}
