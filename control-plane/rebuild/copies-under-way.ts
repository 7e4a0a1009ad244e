import { sql } from 'kysely';
import type { Database } from '../storage/database.ts';
import { SNAPSHOT_SCHEMA } from './projection-copy.ts';

/** A rebuild that has not moved for this long is taken to be forgotten (ours): the log does not wait for it. */
const FORGOTTEN_AFTER_DAYS = 1;

/** Whether a rebuild or a verification has still to read events up to a position. */
export async function holdsEventsFor(database: Database, position: number): Promise<boolean> {
  const row = await database
    .selectFrom('projection_copies')
    .select('schema')
    .where('schema', '<>', SNAPSHOT_SCHEMA)
    .where('position', '<', position)
    .where(sql<boolean>`updated_at > now() - ${FORGOTTEN_AFTER_DAYS} * interval '1 day'`)
    .executeTakeFirst();
  return row !== undefined;
}
