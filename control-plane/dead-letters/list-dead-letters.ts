import { sql } from 'kysely';
import type { Database } from '../storage/database.ts';

/** An event or a message that could not be applied. */
export interface DeadLetterEntry {
  readonly id: number;
  /** Identity and type of the event; null where the message could not be read, so that it cannot be applied again. */
  readonly node: string | null;
  readonly epoch: string | null;
  readonly seq: number | null;
  readonly type: string | null;
  readonly errorCode: string;
  readonly error: string;
  /** When it was set aside, and when it was last tried again; ISO 8601. */
  readonly recordedAt: string;
  readonly triedAt: string | null;
}

/** Those that are not resolved, oldest first, at most `limit`; and how many there are. */
export async function listDeadLetters(
  database: Database,
  limit: number,
): Promise<{ count: number; deadLetters: DeadLetterEntry[] }> {
  const open = database.selectFrom('dead_letter').where('resolved_at', 'is', null);
  const { count } = await open.select(({ fn }) => fn.countAll<number>().as('count')).executeTakeFirstOrThrow();
  const rows = await open
    .select(['id', 'node', 'epoch', 'seq', 'type', 'error_code', 'error', 'tried_at'])
    .select(sql<Date>`recorded_at`.as('recorded_at'))
    .orderBy('id')
    .limit(limit)
    .execute();
  const deadLetters = rows.map(({ error_code: errorCode, recorded_at: recordedAt, tried_at: triedAt, ...row }) => ({
    ...row,
    errorCode,
    recordedAt: recordedAt.toISOString(),
    triedAt: triedAt?.toISOString() ?? null,
  }));
  return { count, deadLetters };
}

/** Ids behind `after` of those that can be applied again, oldest first, at most `limit`. */
export async function listRetryable(database: Database, after: number, limit: number): Promise<number[]> {
  const rows = await database
    .selectFrom('dead_letter')
    .select('id')
    .where('resolved_at', 'is', null)
    .where('node', 'is not', null)
    .where('id', '>', after)
    .orderBy('id')
    .limit(limit)
    .execute();
  return rows.map(({ id }) => id);
}
