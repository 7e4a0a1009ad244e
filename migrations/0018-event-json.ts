import { type Kysely, sql } from 'kysely';

/**
 * The log keeps the data of events as text that is JSON, which is what it is read as. To take a traffic window of 50 connections apart into
 * jsonb took Postgres longer than all else about its row but to compress it. Where there is a long log, this writes it anew.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`SET LOCAL statement_timeout = 0`.execute(db);
  await sql`ALTER TABLE events ALTER COLUMN data TYPE json USING data::text::json`.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`SET LOCAL statement_timeout = 0`.execute(db);
  await sql`ALTER TABLE events ALTER COLUMN data TYPE jsonb USING data::jsonb`.execute(db);
}
