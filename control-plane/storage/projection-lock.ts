import { sql } from 'kysely';
import type { DatabaseTransaction } from './database.ts';
import { NotLeaderError } from './term.ts';

/** Key of the advisory lock under which the log grows: "vpnlog" in ASCII. */
export const PROJECTION_LOCK = 0x76706e6c6f67;

/**
 * Waits for the right to append to the log and holds it until the transaction ends. It must be the first statement, so
 * that all later ones see what the holders before committed.
 */
export async function lockProjections(trx: DatabaseTransaction): Promise<void> {
  await sql`SELECT pg_advisory_xact_lock(${PROJECTION_LOCK}::bigint)`.execute(trx);
}

/**
 * Throws NotLeaderError unless the term is the current one. The row's key stays locked, so that no new term begins before
 * the transaction ends; confirmations of this one do not wait for it.
 */
export async function checkOwnerEpoch(trx: DatabaseTransaction, ownerEpoch: number): Promise<void> {
  const { owner_epoch: current } = await trx
    .selectFrom('leadership')
    .select('owner_epoch')
    .forKeyShare()
    .executeTakeFirstOrThrow();
  if (current !== ownerEpoch) throw new NotLeaderError(ownerEpoch, current);
}
