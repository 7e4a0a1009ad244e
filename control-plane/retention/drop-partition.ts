import { sql } from 'kysely';
import { LIVE_SCHEMA } from '../rebuild/table-definitions.ts';
import type { Database, DatabaseTransaction } from '../storage/database.ts';
import { checkOwnerEpoch, lockProjections } from '../storage/projection-lock.ts';
import type { Term } from '../storage/term.ts';

/** How long readers of the table may keep the drop waiting (ours): others wait behind it. It is tried again later. */
const LOCK_TIMEOUT_MS = 1_000;

/** Drops a partition whole while nothing is projected, after what `prepare` does in the same transaction. */
export async function dropPartition(
  database: Database,
  term: Term,
  name: string,
  prepare: (trx: DatabaseTransaction) => Promise<unknown>,
): Promise<void> {
  await database.transaction().execute(async (trx) => {
    await lockProjections(trx);
    await checkOwnerEpoch(trx, term.ownerEpoch);
    await sql`SET LOCAL lock_timeout = ${sql.lit(LOCK_TIMEOUT_MS)}`.execute(trx);
    await prepare(trx);
    await sql`DROP TABLE ${sql.id(LIVE_SCHEMA, name)}`.execute(trx);
  });
}
