import { sql } from 'kysely';
import { CONTROL_NODE, type NewEvent, type VpnEvent } from '../../shared/events/envelope.ts';
import { currentVersion } from '../../shared/events/event-versions.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows } from '../storage/insert-rows.ts';
import { checkOwnerEpoch, lockProjections } from '../storage/projection-lock.ts';
import { checkEvent } from './check-event.ts';
import type { LogEntry } from './log-entry.ts';
import { readNewestPosition } from './read-newest-position.ts';
import { recordEntries } from './record-entries.ts';

/** Who appends: the term, and the process (128 random bits, hexadecimal). */
export interface ControlAuthor {
  readonly ownerEpoch: number;
  readonly incarnation: string;
}

const OUTBOX_COLUMNS: Readonly<Record<string, Column<LogEntry>>> = {
  seq: { type: 'bigint', value: ({ event }) => event.seq },
  epoch: { type: 'text', value: ({ event }) => event.epoch },
  position: { type: 'bigint', value: (row) => row.position },
  envelope: { type: 'jsonb', value: ({ event }) => JSON.stringify(event) },
};

/**
 * Appends events that the control plane decided: log, projections and outbox, in the caller's transaction. Whoever
 * decides from what is stored calls `lockProjections` first of all, so that nothing changes in between; taking the lock
 * again here costs nothing. Throws NotLeaderError when the term is over, InvalidEventError for data that no event has.
 */
export async function appendControlEvents(
  trx: DatabaseTransaction,
  author: ControlAuthor,
  events: readonly NewEvent[],
): Promise<VpnEvent[]> {
  await lockProjections(trx);
  await checkOwnerEpoch(trx, author.ownerEpoch);
  if (events.length === 0) return [];
  const { epoch, applied_seq: seq } = await trx
    .selectFrom('node_epochs')
    .select(['epoch', 'applied_seq'])
    .where('node', '=', CONTROL_NODE)
    .where('current', '=', true)
    .executeTakeFirstOrThrow();
  const position = await readNewestPosition(trx);
  const entries = events.map(({ type, at, data }, index): LogEntry => {
    const identity = { node: CONTROL_NODE, epoch, seq: seq + index + 1, incarnation: author.incarnation };
    const event = checkEvent({ ...identity, type, version: currentVersion(type), at, data });
    return { position: position + index + 1, streamSeq: null, event };
  });
  await recordEntries(trx, entries);
  await insertRows(trx, 'outbox', OUTBOX_COLUMNS, entries);
  await trx
    .updateTable('node_epochs')
    .set({ applied_seq: seq + events.length, last_at: events.at(-1)!.at })
    .set(({ fn, val }) => ({ first_at: fn.coalesce('first_at', val(new Date(events[0]!.at))) }))
    .where('node', '=', CONTROL_NODE)
    .where('epoch', '=', epoch)
    .execute();
  await trx
    .updateTable('event_checkpoint')
    .set({ position: position + events.length, owner_epoch: author.ownerEpoch, committed_at: sql`now()` })
    .execute();
  return entries.map(({ event }) => event);
}
