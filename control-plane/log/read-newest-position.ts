import type { Database } from '../storage/database.ts';

/** Position of the newest event of the log; 0 before the first. */
export async function readNewestPosition(database: Database): Promise<number> {
  const { position } = await database.selectFrom('event_checkpoint').select('position').executeTakeFirstOrThrow();
  return position;
}
