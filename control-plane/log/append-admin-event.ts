import type { ControlEventType } from '../../shared/events/control-events.ts';
import type { NewEvent } from '../../shared/events/envelope.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { readOwnerEpoch } from '../storage/projection-lock.ts';
import { readClock } from '../storage/read-clock.ts';
import { appendControlEvents } from './append-control-events.ts';

/** Who runs a command, and the process (128 random bits, hexadecimal) that writes so in the log. */
export interface Administrator {
  readonly actor: string;
  readonly incarnation: string;
}

type UndatedEvent = { [K in ControlEventType]: Omit<NewEvent<K>, 'at'> }[ControlEventType];

/**
 * Appends what an administrator does by a command, in the caller's transaction, which holds the projection lock. It needs no leader:
 * whoever holds that lock may append, in the name of the current term, and a leader reads where the log ends before each batch.
 */
export async function appendAdminEvent(
  trx: DatabaseTransaction,
  incarnation: string,
  event: UndatedEvent,
): Promise<void> {
  const author = { ownerEpoch: await readOwnerEpoch(trx), incarnation };
  const at = new Date(await readClock(trx)).toISOString();
  await appendControlEvents(trx, author, [{ ...event, at }]);
}
