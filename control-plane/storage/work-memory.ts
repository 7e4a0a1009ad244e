import { sql } from 'kysely';
import type { DatabaseTransaction } from './database.ts';

/** Ours: in these, 100,000 connections are grouped; Postgres' usual 4 MB send them through temporary files. */
const WORK_MEM = '64MB';

/** Until the transaction ends, its statements sort and group in memory. */
export async function allowWorkMemory(trx: DatabaseTransaction): Promise<void> {
  await sql`SET LOCAL work_mem = ${sql.lit(WORK_MEM)}`.execute(trx);
}
