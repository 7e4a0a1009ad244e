import { sql } from 'kysely';
import type { Database } from './database.ts';

export const AUDITOR_ROLE = 'masque_vpn_auditor';

/**
 * What keeps auditors out, as a sentence with the SQL that lets them in; undefined when nothing does. The migration makes
 * their role where its user may create roles.
 */
export async function auditorProblem(database: Database): Promise<string | undefined> {
  const { rows } = await sql<{ exists: boolean; granted: boolean }>`
    SELECT r.oid IS NOT NULL AS exists, coalesce(has_table_privilege(r.oid, 'conflicting_claims', 'SELECT'), false) AS granted
    FROM (SELECT to_regrole(${AUDITOR_ROLE}) AS oid) r`.execute(database);
  const [role] = rows;
  if (role?.granted) return undefined;
  const create = role?.exists ? '' : `as a superuser: CREATE ROLE ${AUDITOR_ROLE} NOLOGIN; then `;
  return `auditors cannot read yet; ${create}as the owner of the database: SELECT grant_to_auditor()`;
}
