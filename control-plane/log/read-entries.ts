import type { VpnEvent } from '../../shared/events/envelope.ts';
import { inCurrentVersion } from '../../shared/events/event-versions.ts';
import type { Database } from '../storage/database.ts';
import type { LogEntry } from './log-entry.ts';

/**
 * Up to `limit` entries of the log behind position `after`, in their order, and none beyond `through`; each as the current
 * version of its type has it.
 */
export async function readEntries(
  database: Database,
  after: number,
  limit: number,
  through: number = Number.MAX_SAFE_INTEGER,
): Promise<LogEntry[]> {
  const rows = await database
    .selectFrom('events')
    .select([
      'position',
      'node',
      'epoch',
      'seq',
      'incarnation',
      'type',
      'version',
      'at',
      'data',
      'stream_seq',
      'retry_of',
    ])
    .where('position', '>', after)
    .where('position', '<=', through)
    .orderBy('position')
    .limit(limit)
    .execute();
  return rows.map(({ position, stream_seq: streamSeq, retry_of: retryOf, at, ...event }) => ({
    position,
    streamSeq,
    retryOf: retryOf ?? undefined,
    // What is in the log was checked when it was written.
    event: inCurrentVersion({ ...event, at: at.toISOString() }) as VpnEvent,
  }));
}
