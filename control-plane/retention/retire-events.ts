import { type RawBuilder, sql } from 'kysely';
import { CodedError } from '../../shared/errors.ts';
import { PROJECTION_TABLES } from '../projections/projection-tables.ts';
import { holdsEventsFor } from '../rebuild/copies-under-way.ts';
import { exclusively } from '../rebuild/exclusively.ts';
import { readPartitions } from '../rebuild/partitions.ts';
import { beginCopy, findCopy, SNAPSHOT_SCHEMA } from '../rebuild/projection-copy.ts';
import { replayLog } from '../rebuild/replay-log.ts';
import { LIVE_SCHEMA } from '../rebuild/table-definitions.ts';
import type { Database, DatabaseTransaction } from '../storage/database.ts';
import { checkOwnerEpoch } from '../storage/projection-lock.ts';
import type { Term } from '../storage/term.ts';
import { dropPartition } from './drop-partition.ts';
import { findOldestWhole } from './find-oldest-whole.ts';

/**
 * Drops the oldest partition of the log once it is full and all of its events were recorded before `before`: the snapshot moves
 * over it first, in transactions that a crash does not undo. Returns its name; undefined where there is none to drop.
 * Throws NotLeaderError, and ProjectionCopyError where the snapshot does not fit the tables any more.
 */
export async function retireOldestEvents(database: Database, term: Term, before: Date): Promise<string | undefined> {
  const oldest = await findOldestWhole(database, 'events');
  if (oldest === undefined) return undefined;
  const { rows } = await recordedLast(oldest.name).execute(database);
  const [newest] = rows;
  if (newest !== undefined && newest.recorded_at >= before) return undefined;
  const last = oldest.to - 1;
  if (await holdsEventsFor(database, last)) return undefined;
  return await exclusively(database, SNAPSHOT_SCHEMA, async () => {
    const guard = (trx: DatabaseTransaction) => checkOwnerEpoch(trx, term.ownerEpoch);
    const snapshot = (await findCopy(database, SNAPSHOT_SCHEMA)) ?? (await beginCopy(database, SNAPSHOT_SCHEMA, guard));
    const { signal } = term;
    const position = await replayLog(database, SNAPSHOT_SCHEMA, snapshot.position, { through: last, guard, signal });
    if (position < last) throw new Error(`the snapshot ends at ${position}, before ${last}`);
    try {
      await dropPartition(database, term, oldest.name, async (trx) => {
        await refuseWhileNeeded(trx, last);
        await forgetTraffic(trx);
      });
    } catch (error) {
      if (error instanceof EventsNeededError) return undefined;
      throw error;
    }
    return oldest.name;
  });
}

/** When the last event of a partition was recorded, which was at most a transaction before any other one of it. Read from its index. */
export function recordedLast(partition: string): RawBuilder<{ recorded_at: Date }> {
  return sql`SELECT recorded_at FROM ${sql.id(LIVE_SCHEMA, partition)} ORDER BY position DESC LIMIT 1`;
}

class EventsNeededError extends CodedError {
  constructor(position: number) {
    super('EVENTS_NEEDED', `a rebuild or a verification has still to read events up to position ${position}`);
  }
}

/** One may have begun while the snapshot moved; none begins from here on until the transaction ends (see beginCopy). */
async function refuseWhileNeeded(trx: DatabaseTransaction, last: number): Promise<void> {
  await sql`LOCK TABLE projection_copies IN SHARE ROW EXCLUSIVE MODE`.execute(trx);
  if (await holdsEventsFor(trx, last)) throw new EventsNeededError(last);
}

/** What follows from its rows of traffic is in the snapshot; the rows themselves are in the live table as long as they are kept. */
async function forgetTraffic(trx: DatabaseTransaction): Promise<void> {
  for (const { name, partitionedBy } of PROJECTION_TABLES) {
    if (partitionedBy === undefined) continue;
    for (const partition of await readPartitions(trx, SNAPSHOT_SCHEMA, name)) {
      await sql`DROP TABLE ${sql.id(SNAPSHOT_SCHEMA, partition.name)}`.execute(trx);
    }
  }
}
