import { sql } from 'kysely';
import type { DatabaseTransaction } from './database.ts';

/** Postgres' clock, milliseconds since 1970. */
export async function readClock(trx: DatabaseTransaction): Promise<number> {
  const { rows } = await sql<{ now_ms: number }>`
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms`.execute(trx);
  return rows[0]?.now_ms ?? Date.now();
}
