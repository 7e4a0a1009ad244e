import { type Kysely, sql } from 'kysely';
import { commentOnColumns } from './comment-on.ts';

/** Every client belongs to one pool by name. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    ALTER TABLE clients ADD COLUMN pool text NOT NULL DEFAULT 'default';
    ALTER TABLE clients ALTER COLUMN pool DROP DEFAULT;
    ALTER TABLE client_credentials ADD COLUMN pool text NOT NULL DEFAULT 'default';
    ALTER TABLE client_credentials ALTER COLUMN pool DROP DEFAULT`.execute(db);
  const pool = 'The pool that it gets its addresses from.';
  await commentOnColumns(db, { clients: { pool }, client_credentials: { pool } });
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`ALTER TABLE clients DROP COLUMN pool; ALTER TABLE client_credentials DROP COLUMN pool`.execute(db);
}
