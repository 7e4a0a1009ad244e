import { type Kysely, type RawBuilder, sql } from 'kysely';

/** Auditors read what should never be in the ledger, too. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await defineGrants(db, sql`, leaked_addresses, orphaned_addresses`);
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
  await sql`
    DO $$
      BEGIN
        IF to_regrole('masque_vpn_auditor') IS NOT NULL THEN
          REVOKE SELECT ON leaked_addresses, orphaned_addresses FROM masque_vpn_auditor;
        END IF;
      END $$`.execute(db);
}

async function defineGrants(db: Kysely<unknown>, moreViews: RawBuilder<unknown>): Promise<void> {
  await sql`
    CREATE OR REPLACE FUNCTION grant_to_auditor() RETURNS void LANGUAGE plpgsql AS $$
      BEGIN
        GRANT SELECT ON address_history, connection_history, usage_daily, failed_authentications, admin_changes,
          completeness${moreViews} TO masque_vpn_auditor;
        GRANT EXECUTE ON FUNCTION address_holders(inet, timestamptz), sessions_at(timestamptz), session_counts_at(timestamptz),
          session_span(timestamptz, timestamptz), failed_authentications_by_address(timestamptz, timestamptz),
          epoch_proof(text, text) TO masque_vpn_auditor;
      END $$`.execute(db);
}
