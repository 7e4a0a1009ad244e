import { type Kysely, sql } from 'kysely';

/** Percent. All rows of a page are folded at once, and HOT needs room for a second version of each of them in that page. */
const FILLFACTOR = 45;

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`ALTER TABLE connections SET (fillfactor = ${sql.lit(FILLFACTOR)})`.execute(db);
}
