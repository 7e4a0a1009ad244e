import { type Kysely, sql } from 'kysely';
import { commentOn } from './comment-on.ts';

/** Rebuilding the projections from the log, and how long the log is kept. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE projection_copies (
      schema text PRIMARY KEY,
      definition text NOT NULL,
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

    CREATE OR REPLACE FUNCTION ensure_event_partitions(through bigint) RETURNS bigint LANGUAGE plpgsql AS $$
    DECLARE
      size bigint;
      needed bigint;
      first bigint;
      name text;
    BEGIN
      SELECT partition_size, through + positions_ahead INTO size, needed FROM public.log_keeping;
      SELECT coalesce(max(substring(pg_get_expr(c.relpartbound, c.oid) FROM $re$TO [(]'([0-9]+)'[)]$re$)::bigint), 0) INTO first
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'events'::regclass;
      WHILE first <= needed LOOP
        name := format('events_%s', lpad(first::text, 12, '0'));
        EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
        EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I UNIQUE (node, epoch, seq)', name, name || '_identity');
        EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', name, first, first + size);
        first := first + size;
      END LOOP;
      RETURN first - 1;
    END $$;
    COMMENT ON FUNCTION ensure_event_partitions(bigint) IS
      'Makes the partitions of events up to position "through" and as far ahead of it as log_keeping says; returns the highest position they hold.'
    `.execute(db);

  await commentOn(db, {
    projection_copies: {
      is: 'Projections as of some position of the log, beside the live ones: the snapshot, and rebuilds that are under way or broke off and can go on.',
      columns: {
        schema:
          'Where its tables are. "snapshot": partitions of events up to its position may be gone. "rebuild": it takes the place of the live tables when it is done. "verify": it is compared with them.',
        definition: 'SHA-256 of what the live tables looked like when it was made.',
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
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`DROP TABLE log_keeping, projection_copies`.execute(db);
}
