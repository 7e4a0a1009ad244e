import { projectEntries } from '../projections/project-entries.ts';
import type { ProjectionMemory } from '../projections/projection-memory.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { appendEntries } from './append-entries.ts';
import type { LogEntry } from './log-entry.ts';

/** Appends entries to the log and projects them, as `projectEntries` does. */
export async function recordEntries(
  trx: DatabaseTransaction,
  entries: readonly LogEntry[],
  memory?: ProjectionMemory,
  meanwhile?: () => Promise<void>,
): Promise<void> {
  await projectEntries(trx, entries, memory, { alongside: appendEntries(trx, entries), meanwhile });
}
