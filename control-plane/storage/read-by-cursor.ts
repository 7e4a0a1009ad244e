import { type RawBuilder, sql } from 'kysely';
import type { Database } from './database.ts';

/** Rows at a time (ours). */
const FETCHED_ROWS = 500;

/** Reads what may have more rows than fit into memory, in the caller's transaction; one statement at a time is read so. */
export async function* readByCursor<Row>(trx: Database, statement: RawBuilder<Row>): AsyncGenerator<Row> {
  await sql`DECLARE reading NO SCROLL CURSOR FOR ${statement}`.execute(trx);
  let fetched: Row[];
  do {
    ({ rows: fetched } = await sql<Row>`FETCH ${sql.lit(FETCHED_ROWS)} FROM reading`.execute(trx));
    yield* fetched;
  } while (fetched.length === FETCHED_ROWS);
  await sql`CLOSE reading`.execute(trx);
}
