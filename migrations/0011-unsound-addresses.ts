import { type Kysely, sql } from 'kysely';
import { commentOn } from './comment-on.ts';

/** What should never be in the ledger, as rows. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE VIEW leaked_addresses AS
      SELECT a.address, a.client_id, a.node, a.connection_id, a.block, lower(a.during) AS held_from,
        NULL::timestamptz AS held_until, c.closed_at, true AS held
      FROM address_assignments a JOIN connections c USING (connection_id)
      WHERE upper_inf(a.during) AND c.state = 'closed'
      UNION ALL
      SELECT a.address, a.client_id, a.node, a.connection_id, a.block, lower(a.during), upper(a.during), c.closed_at, false
      FROM address_assignments a JOIN connections c USING (connection_id)
      WHERE NOT upper_inf(a.during) AND c.state = 'closed' AND upper(a.during) > c.closed_at + interval '1 second';

    CREATE VIEW orphaned_addresses AS
      SELECT a.address, a.client_id, a.node, a.connection_id, a.block, lower(a.during) AS held_from, b.lease_end,
        concat_ws(', ',
          CASE WHEN b.lease_end IS NULL THEN 'its node does not hold the block'
            WHEN b.lease_end <= clock_timestamp() THEN 'the lease of the block is over' END,
          CASE WHEN c.established_at IS NULL THEN 'its connection is not known' END) AS why
      FROM address_assignments a
      LEFT JOIN block_states b ON b.block = a.block AND b.node = a.node
      LEFT JOIN connections c USING (connection_id)
      WHERE upper_inf(a.during)
        AND (b.lease_end IS NULL OR b.lease_end <= clock_timestamp() OR c.established_at IS NULL)`.execute(db);

  const assignment = {
    address: 'The address.',
    client_id: 'Client that holds or held it.',
    node: 'Node that gave it.',
    connection_id: 'Connection that it was given for.',
    block: 'Its block.',
    held_from: 'Begin.',
  };
  await commentOn(
    db,
    {
      leaked_addresses: {
        is: 'Addresses that were assigned for longer than their connection lived. Worth an alert while they are held.',
        columns: {
          ...assignment,
          held_until: 'End; null while it is held.',
          closed_at: 'End of the connection.',
          held: 'Whether it is held still.',
        },
      },
      orphaned_addresses: {
        is: 'Addresses that are held at a node without a lease of their block, or for a connection that nobody knows of. In the two minutes after a lease has ended they are to be expected; beyond that worth an alert.',
        columns: {
          ...assignment,
          lease_end: 'Until when the node has its block leased, or had; null where it does not hold it.',
          why: 'What is wrong.',
        },
      },
    },
    'VIEW',
  );
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`DROP VIEW orphaned_addresses, leaked_addresses`.execute(db);
}
