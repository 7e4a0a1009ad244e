import { sql } from 'kysely';
import type { DatabaseTransaction } from '../storage/database.ts';
import { PROJECTION_TABLES } from './projection-tables.ts';

/**
 * Keeps a rebuild from putting other tables in the place of the live ones until the transaction ends. It has to be the first
 * statement of a transaction with one snapshot for all of it: tables that are new since then would look half empty.
 */
export async function holdProjectionTables(trx: DatabaseTransaction): Promise<void> {
  const tables = sql.join(PROJECTION_TABLES.map(({ name }) => sql.id('public', name)));
  await sql`LOCK TABLE ${tables} IN ACCESS SHARE MODE`.execute(trx);
}
