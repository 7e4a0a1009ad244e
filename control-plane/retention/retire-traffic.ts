import { sql } from 'kysely';
import { foldTraffic } from '../projections/fold-traffic.ts';
import { LIVE_SCHEMA } from '../rebuild/table-definitions.ts';
import type { Database } from '../storage/database.ts';
import type { Term } from '../storage/term.ts';
import { dropPartition } from './drop-partition.ts';
import { findOldestWhole } from './find-oldest-whole.ts';

/**
 * Drops the oldest partition of traffic once it is full and all of its windows ended before `before`. Connections, clients,
 * hours and days count its rows for ever. Returns its name; undefined where there is none to drop. Throws NotLeaderError.
 */
export async function retireOldestTraffic(database: Database, term: Term, before: Date): Promise<string | undefined> {
  const oldest = await findOldestWhole(database, 'traffic');
  if (oldest === undefined) return undefined;
  const { rows } = await sql<{ wanted: boolean }>`
    SELECT EXISTS (SELECT FROM ${sql.id(LIVE_SCHEMA, oldest.name)} WHERE window_end >= ${before}) AS wanted
    `.execute(database);
  if (rows[0]?.wanted !== false) return undefined;
  await dropPartition(database, term, oldest.name, foldTraffic);
  return oldest.name;
}
