import { type Kysely, type RawBuilder, sql } from 'kysely';

/**
 * What is held has no reason of an end, which Postgres counts; of upper_inf() it takes for granted that it holds of every third row. So it read
 * all connections there ever were for a few addresses, on every look of the leader at them.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await defineViews(db, sql`upper_inf(a.during) AND a.end_reason IS NULL`);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await defineViews(db, sql`upper_inf(a.during)`);
}

async function defineViews(db: Kysely<unknown>, isHeld: RawBuilder<unknown>): Promise<void> {
  await sql`
    CREATE OR REPLACE VIEW leaked_addresses AS
      SELECT a.address, a.client_id, a.node, a.connection_id, a.block, lower(a.during) AS held_from,
        NULL::timestamptz AS held_until, c.closed_at, true AS held
      FROM address_assignments a JOIN connections c USING (connection_id)
      WHERE ${isHeld} AND c.state = 'closed'
      UNION ALL
      SELECT a.address, a.client_id, a.node, a.connection_id, a.block, lower(a.during), upper(a.during), c.closed_at, false
      FROM address_assignments a JOIN connections c USING (connection_id)
      WHERE NOT upper_inf(a.during) AND c.state = 'closed' AND upper(a.during) > c.closed_at + interval '1 second';

    CREATE OR REPLACE VIEW orphaned_addresses AS
      SELECT a.address, a.client_id, a.node, a.connection_id, a.block, lower(a.during) AS held_from, b.lease_end,
        concat_ws(', ',
          CASE WHEN b.lease_end IS NULL THEN 'its node does not hold the block'
            WHEN b.lease_end <= clock_timestamp() THEN 'the lease of the block is over' END,
          CASE WHEN c.established_at IS NULL THEN 'its connection is not known' END) AS why
      FROM address_assignments a
      LEFT JOIN block_states b ON b.block = a.block AND b.node = a.node
      LEFT JOIN connections c USING (connection_id)
      WHERE ${isHeld}
        AND (b.lease_end IS NULL OR b.lease_end <= clock_timestamp() OR c.established_at IS NULL)`.execute(db);
}
