import { sql } from 'kysely';
import { CodedError } from '../../shared/errors.ts';
import type { Database } from '../storage/database.ts';

/** First key of the advisory locks of copies ("copy" in ASCII); the second one is of the schema. */
const COPY_LOCK = 0x636f7079;

export class CopyInUseError extends CodedError {
  constructor(schema: string) {
    super('COPY_IN_USE', `another process is working on the tables in schema "${schema}"`);
  }
}

/** Runs `work` while no other process works on the same schema. Throws CopyInUseError when one does. */
export async function exclusively<R>(database: Database, schema: string, work: () => Promise<R>): Promise<R> {
  return await database.connection().execute(async (connection) => {
    const { rows } = await sql<{ locked: boolean }>`
      SELECT pg_try_advisory_lock(${COPY_LOCK}, hashtext(${schema})) AS locked`.execute(connection);
    if (rows[0]?.locked !== true) throw new CopyInUseError(schema);
    try {
      return await work();
    } finally {
      await sql`SELECT pg_advisory_unlock(${COPY_LOCK}, hashtext(${schema}))`.execute(connection);
    }
  });
}
