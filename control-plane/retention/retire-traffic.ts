import { sql } from 'kysely';
import { foldTraffic } from '../projections/fold-traffic.ts';
import { LIVE_SCHEMA } from '../rebuild/table-definitions.ts';
import type { Database } from '../storage/database.ts';
import type { Term } from '../storage/term.ts';
import { dropPartition } from './drop-partition.ts';
import { findOldestWhole } from './find-oldest-whole.ts';

/**
 * Drops the oldest partition of traffic once it is full and all of it was recorded before `before`; where the log has not kept when that was, once
 * its windows ended before. Connections, clients, hours and days count its rows for ever. Returns its name; undefined where there is none to drop.
 * Throws NotLeaderError.
 */
export async function retireOldestTraffic(database: Database, term: Term, before: Date): Promise<string | undefined> {
  const oldest = await findOldestWhole(database, 'traffic');
  if (oldest === undefined) return undefined;
  const { rows } = await sql<{ wanted: boolean }>`
    SELECT coalesce(
      (SELECT recorded_at >= ${before} FROM events WHERE position = ${oldest.to - 1}),
      -- One node whose clock was ahead must not keep all of it for years.
      EXISTS (SELECT FROM ${sql.id(LIVE_SCHEMA, oldest.name)} WHERE window_end BETWEEN ${before} AND now())) AS wanted
    `.execute(database);
  if (rows[0]?.wanted !== false) return undefined;
  await dropPartition(database, term, oldest.name, foldTraffic);
  return oldest.name;
}
