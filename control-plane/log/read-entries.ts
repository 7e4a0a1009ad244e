import type { VpnEvent } from '../../shared/events/envelope.ts';
import type { Database } from '../storage/database.ts';
import type { LogEntry } from './log-entry.ts';

/** Up to `limit` entries of the log behind position `after`, in their order, and none beyond `through`. */
export async function readEntries(
  database: Database,
  after: number,
  limit: number,
  through: number = Number.MAX_SAFE_INTEGER,
): Promise<LogEntry[]> {
  const rows = await database
    .selectFrom('events')
    .select(['position', 'node', 'epoch', 'seq', 'incarnation', 'type', 'version', 'at', 'data', 'stream_seq'])
    .where('position', '>', after)
    .where('position', '<=', through)
    .orderBy('position')
    .limit(limit)
    .execute();
  return rows.map(({ position, stream_seq: streamSeq, at, ...event }) => ({
    position,
    streamSeq,
    event: { ...event, at: at.toISOString() } as VpnEvent,
  }));
}
