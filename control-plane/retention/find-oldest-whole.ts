import { type Partition, readPartitions } from '../rebuild/partitions.ts';
import { LIVE_SCHEMA } from '../rebuild/table-definitions.ts';
import type { Database } from '../storage/database.ts';

/** The oldest partition of a table, if the log has grown beyond it. */
export async function findOldestWhole(database: Database, table: 'events' | 'traffic'): Promise<Partition | undefined> {
  const [oldest] = await readPartitions(database, LIVE_SCHEMA, table);
  const { position } = await database.selectFrom('event_checkpoint').select('position').executeTakeFirstOrThrow();
  return oldest !== undefined && oldest.to <= position ? oldest : undefined;
}
