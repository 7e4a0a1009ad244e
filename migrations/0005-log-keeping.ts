import { type Kysely, sql } from 'kysely';
import { commentOn, commentOnColumns } from './comment-on.ts';

/** Rebuilding the projections from the log, and how long the log is kept. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE projection_copies (
      schema text PRIMARY KEY,
      from_position bigint NOT NULL,
      position bigint NOT NULL CHECK (position >= from_position),
      started_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now()
    );

    CREATE TABLE log_keeping (
      singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
      partition_size bigint NOT NULL DEFAULT 1000000 CHECK (partition_size > 0),
      positions_ahead bigint NOT NULL DEFAULT 2000000 CHECK (positions_ahead >= 0)
    );
    INSERT INTO log_keeping DEFAULT VALUES;

    CREATE FUNCTION ensure_position_partitions(parent text, through bigint) RETURNS bigint LANGUAGE plpgsql AS $$
    DECLARE
      size bigint;
      needed bigint;
      first bigint;
      name text;
      schema CONSTANT text := (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = parent::regclass);
    BEGIN
      SELECT partition_size, through + positions_ahead INTO size, needed FROM public.log_keeping;
      SELECT coalesce(max(substring(pg_get_expr(c.relpartbound, c.oid) FROM $re$TO [(]'([0-9]+)'[)]$re$)::bigint),
          through / size * size) INTO first
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = parent::regclass;
      WHILE first <= needed LOOP
        name := format('%s_%s', parent, lpad(first::text, 12, '0'));
        EXECUTE format('CREATE TABLE %s.%I (LIKE %s.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', schema, name, schema, parent);
        IF parent = 'events' THEN
          EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I UNIQUE (node, epoch, seq)', name, name || '_identity');
        END IF;
        EXECUTE format('ALTER TABLE %s.%I ATTACH PARTITION %s.%I FOR VALUES FROM (%s) TO (%s)',
          schema, parent, schema, name, first, first + size);
        first := first + size;
      END LOOP;
      RETURN first - 1;
    END $$;
    COMMENT ON FUNCTION ensure_position_partitions(text, bigint) IS
      'Makes the partitions of a table (the one that the search path finds) up to position "through" and as far ahead of it as log_keeping says; returns the highest position they hold.';
    CREATE OR REPLACE FUNCTION ensure_event_partitions(through bigint) RETURNS bigint LANGUAGE plpgsql AS $$
      BEGIN RETURN public.ensure_position_partitions('events', through); END $$;
    CREATE OR REPLACE FUNCTION ensure_traffic_partitions(through bigint) RETURNS bigint LANGUAGE plpgsql AS $$
      BEGIN RETURN public.ensure_position_partitions('traffic', through); END $$;

    ALTER TABLE dead_letter ADD COLUMN tried_at timestamptz, ADD COLUMN resolved_at timestamptz,
      ADD COLUMN resolved_position bigint;
    ALTER TABLE events ADD COLUMN retry_of bigint`.execute(db);

  await commentOn(db, {
    projection_copies: {
      is: 'Projections as of some position of the log, beside the live ones: the snapshot, and rebuilds that are under way or broke off and can go on.',
      columns: {
        schema:
          'Where its tables are. "snapshot": partitions of events up to its position may be gone. "rebuild": it takes the place of the live tables when it is done. "verify": it is compared with them.',
        from_position: 'Position that it began behind: 0, or that of the snapshot.',
        position: 'Position up to which its tables are filled; committed with them.',
        started_at: 'When it was made.',
        updated_at: 'When its position last moved.',
      },
    },
    log_keeping: {
      is: 'How the log is cut into partitions. One row.',
      columns: {
        singleton: 'Always true: keeps the table at one row.',
        partition_size: 'Positions in each new partition.',
        positions_ahead: 'How far ahead of the newest position partitions are made.',
      },
    },
  });
  await commentOnColumns(db, {
    events: {
      retry_of:
        'Entry of dead_letter that it was applied from, after the events that its sender wrote later; null for all others.',
    },
    dead_letter: {
      tried_at: 'When it was last applied again in vain, or with success; null: never tried again.',
      resolved_at: 'When it was applied after all; null while it is not.',
      resolved_position: 'Its position in the log then.',
    },
  });
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    ALTER TABLE events DROP COLUMN retry_of;
    ALTER TABLE dead_letter DROP COLUMN tried_at, DROP COLUMN resolved_at, DROP COLUMN resolved_position;
    DROP TABLE log_keeping, projection_copies;
    DROP FUNCTION ensure_position_partitions(text, bigint)`.execute(db);
}
