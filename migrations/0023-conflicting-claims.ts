import { type Kysely, type RawBuilder, sql } from 'kysely';
import { commentOn } from './comment-on.ts';

/** Who else claimed an address is for auditors, too: the history of an address names only the one who had it first. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE VIEW conflicting_claims AS
      SELECT c.address, c.at, c.client_id, c.node, c.connection_id, c.holder_client_id, c.holder_node, c.holder_connection_id,
        lower(a.during) AS holder_from, upper(a.during) AS holder_until, c.position
      FROM address_conflicts c LEFT JOIN address_assignments a ON a.assigned_position = c.holder_position`.execute(db);
  await commentOn(
    db,
    {
      conflicting_claims: {
        is: 'Claims to an address that another connection held at that time, so that both may have used it. The claim is not in address_history. Each is worth an alert.',
        columns: {
          address: 'The address.',
          at: 'When it was given a second time, by the clock of the node that did.',
          client_id: 'Client that it was given to.',
          node: 'Node that gave it.',
          connection_id: 'Connection that it was given for.',
          holder_client_id: 'Client that held it already, and is in address_history.',
          holder_node: 'Node of that client.',
          holder_connection_id: 'Connection of that client.',
          holder_from: 'Since when that client held it.',
          holder_until: 'Until when; null while it holds it.',
          position: 'The event of the claim in the log.',
        },
      },
    },
    'VIEW',
  );
  await defineGrants(db, sql`, conflicting_claims`);
  // Where there is no such role yet, whoever makes it calls the function.
  await sql`
    DO $$
      BEGIN
        IF to_regrole('masque_vpn_auditor') IS NOT NULL THEN
          PERFORM grant_to_auditor();
        END IF;
      END $$`.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await defineGrants(db, sql``);
  await sql`DROP VIEW conflicting_claims`.execute(db);
}

async function defineGrants(db: Kysely<unknown>, moreViews: RawBuilder<unknown>): Promise<void> {
  await sql`
    CREATE OR REPLACE FUNCTION grant_to_auditor() RETURNS void LANGUAGE plpgsql AS $$
      BEGIN
        GRANT SELECT ON address_history, connection_history, usage_daily, failed_authentications, admin_changes,
          completeness, leaked_addresses, orphaned_addresses${moreViews} TO masque_vpn_auditor;
        GRANT EXECUTE ON FUNCTION address_holders(inet, timestamptz), sessions_at(timestamptz), session_counts_at(timestamptz),
          session_span(timestamptz, timestamptz), failed_authentications_by_address(timestamptz, timestamptz),
          epoch_proof(text, text) TO masque_vpn_auditor;
      END $$`.execute(db);
}
