import { readNewestPosition } from '../log/read-newest-position.ts';
import { type Partition, readPartitions } from '../rebuild/partitions.ts';
import { LIVE_SCHEMA } from '../rebuild/table-definitions.ts';
import type { Database } from '../storage/database.ts';

/** The oldest partition of a table, if the log has grown beyond it. */
export async function findOldestWhole(database: Database, table: 'events' | 'traffic'): Promise<Partition | undefined> {
  const [oldest] = await readPartitions(database, LIVE_SCHEMA, table);
  return oldest !== undefined && oldest.to <= (await readNewestPosition(database)) ? oldest : undefined;
}
