import { sql } from 'kysely';
import type { DatabaseTransaction } from './database.ts';
import { NotLeaderError } from './term.ts';

/**
 * Takes the lock under which the log grows, until the transaction ends. It is a table's, not an advisory one: those are open to
 * every role, and an auditor could stop all work with one.
 */
export const LOCK_LOG = 'LOCK TABLE log_lock IN EXCLUSIVE MODE';

/**
 * Waits for the right to append to the log and holds it until the transaction ends. It must be the first statement, so
 * that all later ones see what the holders before committed.
 */
export async function lockProjections(trx: DatabaseTransaction): Promise<void> {
  await sql.raw(LOCK_LOG).execute(trx);
}

/**
 * The current term. The row's key stays locked, so that no new term begins before the transaction ends; confirmations of
 * this one do not wait for it.
 */
export async function readOwnerEpoch(trx: DatabaseTransaction): Promise<number> {
  const { owner_epoch: current } = await trx
    .selectFrom('leadership')
    .select('owner_epoch')
    .forKeyShare()
    .executeTakeFirstOrThrow();
  return current;
}

/** Throws NotLeaderError unless the term is the current one, which it then stays until the transaction ends. */
export async function checkOwnerEpoch(trx: DatabaseTransaction, ownerEpoch: number): Promise<void> {
  const current = await readOwnerEpoch(trx);
  if (current !== ownerEpoch) throw new NotLeaderError(ownerEpoch, current);
}
