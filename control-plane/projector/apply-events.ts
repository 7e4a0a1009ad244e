import { sql } from 'kysely';
import pg from 'pg';
import { CodedError, describeError, errorCode } from '../../shared/errors.ts';
import type { LogEntry } from '../log/log-entry.ts';
import { recordEntries } from '../log/record-entries.ts';
import type { ProjectionMemory } from '../projections/projection-memory.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import type { DeadLetter, IncomingEvent } from './read-message.ts';

export interface AppliedEvents {
  /** Position of the newest event of the log. */
  readonly position: number;
  readonly deadLetters: readonly DeadLetter[];
}

/**
 * SQLSTATE classes that blame the data: cardinality violation (e.g. one row updated twice by one statement), data
 * exception, integrity constraint violation, a limit of Postgres exceeded (e.g. by a value too long for its index),
 * raised by a function.
 */
const POISON_CLASSES = new Set(['21', '22', '23', '54', 'P0']);

/**
 * Appends events to the log behind `position` and projects them, in their order. What cannot be applied becomes a dead
 * letter and takes no position; the rest is not held up by it. Throws only what says nothing about an event. `meanwhile` is done
 * while Postgres writes.
 */
export async function applyEvents(
  trx: DatabaseTransaction,
  position: number,
  events: readonly IncomingEvent[],
  memory: ProjectionMemory,
  meanwhile?: () => Promise<void>,
): Promise<AppliedEvents> {
  const deadLetters: DeadLetter[] = [];
  const sound: Array<Pick<LogEntry, 'event' | 'written'> & { incoming: IncomingEvent }> = [];
  for (const incoming of events) {
    const { envelope, checked } = incoming;
    if (checked instanceof Error) deadLetters.push(deadLetterOf(incoming, checked));
    else sound.push({ incoming, event: checked, written: envelope.version === checked.version ? undefined : envelope });
  }

  /** Halves what fails until the event that is to blame is alone. Returns the new position. */
  const applyRange = async (start: number, range: typeof sound): Promise<number> => {
    if (range.length === 0) return start;
    const entries = range.map(
      ({ incoming: { streamSeq }, event, written }, index): LogEntry => ({
        position: start + index + 1,
        streamSeq,
        event,
        written,
      }),
    );
    await sql`SAVEPOINT apply_range`.execute(trx);
    try {
      await recordEntries(trx, entries, memory, meanwhile);
      await sql`RELEASE SAVEPOINT apply_range`.execute(trx);
      return start + range.length;
    } catch (error) {
      if (!isPoison(error)) throw error;
      await sql`ROLLBACK TO SAVEPOINT apply_range`.execute(trx);
      memory.forget();
      await sql`RELEASE SAVEPOINT apply_range`.execute(trx);
      if (range.length === 1) {
        deadLetters.push(deadLetterOf(range[0]!.incoming, error));
        return start;
      }
      const half = range.length >> 1;
      return applyRange(await applyRange(start, range.slice(0, half)), range.slice(half));
    }
  };
  return { position: await applyRange(position, sound), deadLetters };
}

/** Whether an error is about what was applied, not about Postgres or the way to it, nor about the schema. */
export function isPoison(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) return POISON_CLASSES.has(error.code?.slice(0, 2) ?? '');
  return error instanceof CodedError || error instanceof TypeError || error instanceof RangeError;
}

function deadLetterOf(incoming: IncomingEvent, error: unknown): DeadLetter {
  const { envelope, subject, streamSeq } = incoming;
  return {
    event: envelope,
    subject,
    streamSeq,
    payload: Buffer.from(JSON.stringify(envelope)),
    errorCode: errorCode(error) ?? 'UNEXPECTED',
    error: describeError(error),
  };
}
