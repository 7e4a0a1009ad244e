import { type Kysely, sql } from 'kysely';

/** Rows that change often find room for their next version on their own page, and no index has to hear of it. */
const FILLFACTOR = 70;

/**
 * What projecting 25,000 records a second takes beyond fewer statements. GiST cannot tell the addresses of a block apart by
 * their inet alone (10,000 inserts: 271 us each, with their numbers 42 us), and questions about one address need no GiST.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`SET LOCAL statement_timeout = 0`.execute(db);
  for (const table of [
    'connections',
    'client_totals',
    'client_histograms',
    'traffic_hourly',
    'traffic_daily',
    'held',
  ]) {
    await sql`ALTER TABLE ${sql.table(table)} SET (fillfactor = ${sql.lit(FILLFACTOR)})`.execute(db);
  }
  await sql`
    ALTER TABLE traffic_fold ADD COLUMN round_end bigint, ADD COLUMN slices smallint NOT NULL DEFAULT 0;
    COMMENT ON COLUMN traffic_fold.position IS
      'Rows of traffic up to this position of the log are folded in; later ones are not, but for what slices says.';
    COMMENT ON COLUMN traffic_fold.slices IS
      'So many of the 64 parts of the clients are folded up to round_end. 0: none, and there is no such round.';
    COMMENT ON COLUMN traffic_fold.round_end IS 'Position up to which the parts are folded one after the other.';
    CREATE INDEX held_address ON held (address)`.execute(db);
  // A window of 50 connections is 12 KiB: Postgres' own method takes longer to compress it than all else about its row.
  await sql`
    DO $$ BEGIN
      EXECUTE format('ALTER DATABASE %I SET default_toast_compression = lz4', current_database());
    EXCEPTION WHEN invalid_parameter_value OR insufficient_privilege THEN
      RAISE NOTICE 'default_toast_compression stays as it is: %', SQLERRM;
    END $$`.execute(db);
  await sql`
    CREATE FUNCTION address_number(address inet) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
      SELECT CASE WHEN family(address) = 4 THEN address - '0.0.0.0' ELSE (address & '::ffff:ffff:ffff') - '::' END
    $$;
    COMMENT ON FUNCTION address_number(inet) IS
      'An IPv4 address as a number, or the last 48 bits of an IPv6 one: what the index against overlapping assignments sorts by.';
    ALTER TABLE address_assignments DROP CONSTRAINT address_assignments_address_during_excl;
    ALTER TABLE address_assignments ADD CONSTRAINT address_assignments_address_during_excl EXCLUDE USING gist
      (int8range(address_number(address), address_number(address), '[]') WITH =, address inet_ops WITH =, during WITH &&);
    CREATE INDEX address_assignments_end ON address_assignments (address, coalesce(upper(during), 'infinity'))`.execute(
    db,
  );
}
