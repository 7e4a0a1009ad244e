import { type Kysely, sql } from 'kysely';
import { commentOn } from './comment-on.ts';

/** Any role may take an advisory lock, an auditor too: the lock of the log becomes one of a table, which takes a right to it. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // Never written, so that no vacuum competes with the lock.
  await sql`CREATE TABLE log_lock (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row))`.execute(db);
  await commentOn(db, {
    log_lock: {
      is: 'Has no rows. Whoever appends to the log or projects it locks this table until the transaction ends.',
      columns: { only_row: 'Never written.' },
    },
  });
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`DROP TABLE log_lock`.execute(db);
}
