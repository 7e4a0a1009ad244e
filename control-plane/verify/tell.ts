import { type RawBuilder, sql } from 'kysely';
import type { Database } from '../storage/database.ts';
import { readByCursor } from '../storage/read-by-cursor.ts';
import type { Difference } from './difference.ts';

/** What is told of the differences that are found. */
export interface Telling {
  /** The most of one table or check; undefined: every one. */
  readonly limit?: number | undefined;
  /** Called for one after the other. */
  readonly onDifference?: ((difference: Difference) => void) | undefined;
}

/** Tells of what a statement finds, by its column `key`, and returns how many rows that are. */
export async function tell<Found>(
  trx: Database,
  statement: RawBuilder<Found>,
  { limit, onDifference = () => undefined }: Telling,
  describe: (found: Found) => Difference,
): Promise<number> {
  const all = sql<Found & { count: number }>`
    SELECT f.*, count(*) OVER () AS count FROM (${statement}) f ORDER BY key::jsonb LIMIT ${limit ?? null}::bigint`;
  let total = 0;
  for await (const row of readByCursor(trx, all)) {
    total = row.count;
    onDifference(describe(row));
  }
  return total;
}
