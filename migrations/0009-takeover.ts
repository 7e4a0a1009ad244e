import { type Kysely, sql } from 'kysely';
import { commentOn } from './comment-on.ts';

/** What a replica needs to take over from one that stands still, and confirmations that wait for no commit. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // As a key column, owner_epoch alone is locked by FOR KEY SHARE: confirmed_at can be written while a commit is under way.
  await sql`
    ALTER TABLE leadership ADD COLUMN application_name text;
    CREATE UNIQUE INDEX leadership_owner_epoch ON leadership (owner_epoch);

    CREATE FUNCTION claim_leadership(lock_key bigint, claimant text, fresh interval) RETURNS boolean LANGUAGE plpgsql AS $$
    DECLARE
      claimed boolean := pg_try_advisory_lock(lock_key);
    BEGIN
      PERFORM pg_terminate_backend(a.pid)
        FROM leadership l JOIN pg_stat_activity a USING (application_name)
        WHERE application_name <> claimant AND a.datname = current_database() AND a.usename = current_user
          AND (claimed OR l.confirmed_at < clock_timestamp() - fresh);
      IF claimed THEN
        UPDATE leadership SET application_name = claimant, confirmed_at = clock_timestamp();
      END IF;
      RETURN claimed;
    END $$;
    COMMENT ON FUNCTION claim_leadership(bigint, text, interval) IS
      'Takes the session lock of the leader if it is free, and says whether it did. Ends the sessions of who led last: those that are left of it, or all of them when it holds the lock and has confirmed nothing for as long as "fresh".'`.execute(
    db,
  );
  await commentOn(db, {
    leadership: {
      is: 'Which replica of the control plane leads. One row.',
      columns: {
        application_name:
          'application_name of all connections of the process that leads or is about to; whoever takes over ends those that are left.',
      },
    },
  });
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    DROP FUNCTION claim_leadership(bigint, text, interval);
    DROP INDEX leadership_owner_epoch;
    ALTER TABLE leadership DROP COLUMN application_name`.execute(db);
}
