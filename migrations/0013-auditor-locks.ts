import { type Kysely, sql } from 'kysely';

/**
 * Advisory locks are open to every role, and an auditor who took those of the log or of the leader would stop the control plane.
 * They belong to the user of the migration alone where it may say so; where not, README has the statement for a superuser.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE FUNCTION keep_advisory_locks(owner text) RETURNS void LANGUAGE plpgsql AS $$
      DECLARE f regprocedure;
      BEGIN
        FOR f IN SELECT oid::regprocedure FROM pg_proc
          WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^pg_(try_)?advisory_'
        LOOP
          EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', f, owner);
          EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
        END LOOP;
      END $$;
    REVOKE ALL ON FUNCTION keep_advisory_locks(text) FROM PUBLIC;
    COMMENT ON FUNCTION keep_advisory_locks(text) IS
      'Leaves advisory locks in this database to one role and superusers, so that nobody else can hold those of the control plane. A superuser may call it.';
    DO $$
      BEGIN
        IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
          PERFORM keep_advisory_locks(current_user);
        ELSE
          RAISE NOTICE 'advisory locks stay open to everybody: a superuser may call keep_advisory_locks(''%'')', current_user;
        END IF;
      END $$`.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    DO $$
      DECLARE f regprocedure;
      BEGIN
        IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
          FOR f IN SELECT oid::regprocedure FROM pg_proc
            WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^pg_(try_)?advisory_'
          LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', f);
          END LOOP;
        END IF;
      END $$;
    DROP FUNCTION keep_advisory_locks(text)`.execute(db);
}
