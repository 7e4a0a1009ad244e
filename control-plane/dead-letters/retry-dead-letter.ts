import { sql } from 'kysely';
import { describeError, errorCode } from '../../shared/errors.ts';
import type { EventEnvelope, VpnEvent } from '../../shared/events/envelope.ts';
import { type Administrator, appendAdminEvent } from '../log/append-admin-event.ts';
import { checkEvent } from '../log/check-event.ts';
import type { LogEntry } from '../log/log-entry.ts';
import { readNewestPosition } from '../log/read-newest-position.ts';
import { recordEntries } from '../log/record-entries.ts';
import { foldTraffic } from '../projections/fold-traffic.ts';
import { isPoison } from '../projector/apply-events.ts';
import { storableText } from '../projector/sequence-store.ts';
import type { Database, DatabaseTransaction } from '../storage/database.ts';
import { lockProjections } from '../storage/projection-lock.ts';

export type RetryOutcome =
  | { readonly type: 'applied'; readonly position: number }
  | { readonly type: 'failed'; readonly errorCode: string; readonly error: string }
  /** There is none, it is resolved already, or it is a message without readable events. */
  | { readonly type: 'refused'; readonly why: string };

/** What the transaction has made of the event. */
type Attempt =
  | { readonly type: 'applied'; readonly position: number; readonly event: VpnEvent }
  | Extract<RetryOutcome, { type: 'failed' }>;

/**
 * Applies an event that was set aside: at the end of the log, under its own identity, and projected; behind it the log says who
 * had it applied. One that fails again stays, with the new error, and the log says nothing.
 */
export async function retryDeadLetter(database: Database, id: number, by: Administrator): Promise<RetryOutcome> {
  return await database.transaction().execute(async (trx) => {
    await lockProjections(trx);
    const letter = await trx.selectFrom('dead_letter').selectAll().where('id', '=', id).executeTakeFirst();
    if (letter === undefined) return { type: 'refused', why: 'there is no such dead letter' };
    if (letter.resolved_position !== null) {
      return { type: 'refused', why: `it was applied already, at position ${letter.resolved_position}` };
    }
    if (letter.node === null) return { type: 'refused', why: 'no event can be read from its message' };
    const result = await attempt(trx, id, letter.payload, letter.stream_seq);
    const found =
      result.type === 'applied'
        ? { resolved_at: sql<Date>`now()`, resolved_position: result.position }
        : { error_code: result.errorCode, error: result.error };
    await trx
      .updateTable('dead_letter')
      .set({ ...found, tried_at: sql<Date>`now()` })
      .where('id', '=', id)
      .execute();
    if (result.type === 'failed') return result;
    await recordRetry(trx, id, result, by);
    return { type: 'applied', position: result.position };
  });
}

async function recordRetry(
  trx: DatabaseTransaction,
  id: number,
  { event, position }: Extract<Attempt, { type: 'applied' }>,
  { actor, incarnation }: Administrator,
): Promise<void> {
  const { node, epoch, seq, type } = event;
  const data = { id, node, epoch, seq, type, position, actor };
  await appendAdminEvent(trx, incarnation, { type: 'dead_letter.applied', data });
}

async function attempt(
  trx: DatabaseTransaction,
  id: number,
  payload: Buffer,
  streamSeq: number | null,
): Promise<Attempt> {
  const newest = await readNewestPosition(trx);
  const position = newest + 1;
  await sql`SAVEPOINT retry`.execute(trx);
  let event: VpnEvent;
  try {
    const envelope = JSON.parse(payload.toString()) as EventEnvelope;
    event = checkEvent(envelope);
    const written = envelope.version === event.version ? undefined : envelope;
    const entries: LogEntry[] = [{ position, streamSeq, event, written, retryOf: id }];
    await recordEntries(trx, entries);
    await foldTraffic(trx);
  } catch (error) {
    if (!isPoison(error)) throw error;
    await sql`ROLLBACK TO SAVEPOINT retry`.execute(trx);
    return { type: 'failed', errorCode: errorCode(error) ?? 'UNEXPECTED', error: storableText(describeError(error)) };
  }
  await trx.updateTable('event_checkpoint').set({ position, committed_at: sql`now()` }).execute();
  return { type: 'applied', position, event };
}
