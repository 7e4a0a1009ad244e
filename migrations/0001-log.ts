import { type Kysely, sql } from 'kysely';
import { commentOn } from './comment-on.ts';

/** Positions in one partition of `events`, and how many partitions are made ahead of the newest position. */
const PARTITION_SIZE = 1_000_000;
const PARTITIONS_AHEAD = 2;

/** The log: events in the order in which they were applied, and what exactly-once projection has to remember. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE leadership (
      singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
      owner_epoch bigint NOT NULL,
      holder text,
      since timestamptz,
      confirmed_at timestamptz
    );
    INSERT INTO leadership (owner_epoch) VALUES (0);

    CREATE TABLE event_checkpoint (
      singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
      owner_epoch bigint NOT NULL,
      stream_created text,
      stream_seq bigint NOT NULL,
      position bigint NOT NULL,
      committed_at timestamptz NOT NULL DEFAULT now()
    );
    INSERT INTO event_checkpoint (owner_epoch, stream_seq, position) VALUES (0, 0, 0);

    CREATE TABLE events (
      position bigint NOT NULL,
      node text NOT NULL,
      epoch text NOT NULL,
      seq bigint NOT NULL,
      incarnation text NOT NULL,
      type text NOT NULL,
      version smallint NOT NULL,
      at timestamptz NOT NULL,
      data jsonb NOT NULL,
      stream_seq bigint,
      recorded_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (position)
    ) PARTITION BY RANGE (position);
    CREATE INDEX events_at ON events USING brin (at);

    CREATE TABLE node_epochs (
      node text NOT NULL,
      epoch text NOT NULL,
      applied_seq bigint NOT NULL,
      current boolean NOT NULL,
      first_at timestamptz,
      last_at timestamptz,
      PRIMARY KEY (node, epoch)
    );
    CREATE UNIQUE INDEX node_epochs_current ON node_epochs (node) WHERE current;
    INSERT INTO node_epochs (node, epoch, applied_seq, current)
      VALUES ('control', replace(gen_random_uuid()::text, '-', ''), 0, true);

    CREATE TABLE parked_events (
      node text NOT NULL,
      epoch text NOT NULL,
      seq bigint NOT NULL,
      envelope json NOT NULL,
      stream_seq bigint NOT NULL,
      parked_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (node, epoch, seq)
    );

    CREATE TABLE event_gaps (
      node text NOT NULL,
      epoch text NOT NULL,
      from_seq bigint NOT NULL,
      to_seq bigint NOT NULL CHECK (to_seq >= from_seq),
      replaced_by text NOT NULL,
      detected_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (node, epoch, from_seq)
    );

    CREATE TABLE dead_letter (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      node text,
      epoch text,
      seq bigint,
      type text,
      subject text,
      stream_created text,
      stream_seq bigint,
      payload bytea NOT NULL,
      error_code text NOT NULL,
      error text NOT NULL,
      recorded_at timestamptz NOT NULL DEFAULT now()
    );

    CREATE TABLE outbox (
      seq bigint PRIMARY KEY,
      epoch text NOT NULL,
      position bigint NOT NULL,
      envelope jsonb NOT NULL,
      recorded_at timestamptz NOT NULL DEFAULT now()
    )`.execute(db);

  await sql`
    CREATE FUNCTION ensure_event_partitions(through bigint) RETURNS bigint LANGUAGE plpgsql AS $$
    DECLARE
      size CONSTANT bigint := ${sql.lit(PARTITION_SIZE)};
      first bigint;
      name text;
    BEGIN
      FOR number IN (through / size) .. (through / size + ${sql.lit(PARTITIONS_AHEAD)}) LOOP
        name := format('events_%s', lpad(number::text, 6, '0'));
        first := number * size;
        IF to_regclass(name) IS NULL THEN
          EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
          EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I UNIQUE (node, epoch, seq)', name, name || '_identity');
          EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', name, first, first + size);
        END IF;
      END LOOP;
      RETURN first + size - 1;
    END $$;
    COMMENT ON FUNCTION ensure_event_partitions(bigint) IS
      'Makes the partitions of events that hold position "through" and those ahead of it; returns the highest position they hold.';
    SELECT ensure_event_partitions(0)`.execute(db);

  await commentOn(db, {
    leadership: {
      is: 'Which replica of the control plane leads. One row.',
      columns: {
        singleton: 'Always true: keeps the table at one row.',
        owner_epoch:
          'Number of the current term; grows by one with every new leader. Every write of a leader checks it.',
        holder: 'Name of the leading process.',
        since: 'When the term began.',
        confirmed_at: 'When the leader last proved that it still holds its lock.',
      },
    },
    event_checkpoint: {
      is: 'How far the event stream is projected; committed with what was projected. One row.',
      columns: {
        singleton: 'Always true: keeps the table at one row.',
        owner_epoch: 'Term that made the last commit; a commit of an older term is refused.',
        stream_created:
          'Creation time of the JetStream stream that stream_seq belongs to; null before the first batch.',
        stream_seq: 'Sequence in that stream of the last message that is projected.',
        position: 'Position of the newest event of the log.',
        committed_at: 'When the checkpoint last moved.',
      },
    },
    events: {
      is: 'The log: every event of nodes and control plane once, in the order in which it was applied.',
      columns: {
        position: 'Order of application, from 1 without holes; also the order of replay.',
        node: 'Who sent it: a node id, or "control".',
        epoch: 'The spool of the sender: 128 random bits, hexadecimal.',
        seq: 'Number of the event in its spool, from 1. (node, epoch, seq) is its identity.',
        incarnation: 'The process that wrote it: new with every start.',
        type: 'Event type, e.g. connection.established.',
        version: 'Version of the schema of data.',
        at: "When it happened, by the sender's wall clock.",
        data: 'What happened, in the shape of type and version.',
        stream_seq: 'Sequence of the message in JetStream; null for events that the control plane decided.',
        recorded_at: 'When the transaction that applied it began.',
      },
    },
    node_epochs: {
      is: 'How far each spool of each node is applied.',
      columns: {
        node: 'Node id, or "control".',
        epoch: 'The spool: 128 random bits, hexadecimal.',
        applied_seq: 'All events of the spool up to this one are applied: lower ones are repeats.',
        current: 'True for the newest spool of the node.',
        first_at: "The sender's time of the first event that was applied.",
        last_at: "The sender's time of the newest event that was applied.",
      },
    },
    parked_events: {
      is: 'Events that arrived before one that precedes them; applied as soon as that one is.',
      columns: {
        node: 'Node id.',
        epoch: 'The spool.',
        seq: 'Number of the event in its spool.',
        envelope: 'The whole event.',
        stream_seq: 'Sequence of its message in JetStream.',
        parked_at: 'When it was parked.',
      },
    },
    event_gaps: {
      is: 'Events that will never come: their spool was replaced by a new one before they arrived. Worth an alert.',
      columns: {
        node: 'Node id.',
        epoch: 'The spool that was replaced.',
        from_seq: 'First missing event.',
        to_seq: 'Last missing event.',
        replaced_by: 'The epoch that took over.',
        detected_at: 'When the new epoch was first seen.',
      },
    },
    dead_letter: {
      is: 'Events and messages that could not be applied. They count as applied, so they do not stop the rest.',
      columns: {
        id: 'Number of the entry.',
        node: 'Who sent it; null when the message could not be decoded.',
        epoch: 'The spool; null when the message could not be decoded.',
        seq: 'Number of the event in its spool; null when the message could not be decoded.',
        type: 'Event type; null when the message could not be decoded.',
        subject: 'Subject of the message, where it came from the stream.',
        stream_created: 'Creation time of the stream that stream_seq belongs to.',
        stream_seq: 'Sequence of the message in JetStream.',
        payload: 'The event as JSON, or the bytes of the message.',
        error_code: 'Stable code of the error.',
        error: 'The error, for people.',
        recorded_at: 'When it was set aside.',
      },
    },
    outbox: {
      is: 'Events of node "control" that are applied and still have to be published to the stream.',
      columns: {
        seq: 'Number of the event among those of node "control".',
        epoch: 'The epoch of node "control".',
        position: 'Position in the log.',
        envelope: 'The whole event.',
        recorded_at: 'When it was decided.',
      },
    },
  });
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    DROP TABLE outbox, dead_letter, event_gaps, parked_events, node_epochs, events, event_checkpoint, leadership;
    DROP FUNCTION ensure_event_partitions(bigint)`.execute(db);
}
