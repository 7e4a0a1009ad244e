import { setTimeout as delay } from 'node:timers/promises';
import { CodedError, errorCode } from '../../shared/errors.ts';
import { type Administrator, appendAdminEvent } from '../log/append-admin-event.ts';
import { readEntries } from '../log/read-entries.ts';
import { readNewestPosition } from '../log/read-newest-position.ts';
import type { Database, DatabaseTransaction } from '../storage/database.ts';
import { lockProjections } from '../storage/projection-lock.ts';
import { catchUp } from './catch-up.ts';
import { readDependents } from './dependents.ts';
import { exclusively } from './exclusively.ts';
import type { OnProgress } from './progress.ts';
import { beginCopy, discardCopy, findCopy, type ProjectionCopy, SNAPSHOT_SCHEMA } from './projection-copy.ts';
import { projectInto, replayLog } from './replay-log.ts';
import { dropSchema } from './shadow-tables.ts';
import { REPLACED_SCHEMA, switchTables } from './switch-tables.ts';

/** Schema of the tables that are to take the place of the live ones. */
export const REBUILD_SCHEMA = 'rebuild';

/** Readers that hold the tables for long make the switch try again, so that nobody waits behind it for long (ours). */
const SWITCH_PAUSE_MS = 500;
const SWITCH_ATTEMPTS = 120;
/** Postgres: lock not available, deadlock detected. */
const LOCKED_CODES = new Set(['55P03', '40P01']);

/** Someone reads the live tables in one long transaction. What is rebuilt stays for the next attempt. */
export class SwitchBlockedError extends CodedError {
  constructor(cause: unknown) {
    super('SWITCH_BLOCKED', `the live tables were in use in all of ${SWITCH_ATTEMPTS} attempts to replace them`, {
      cause,
    });
  }
}

export interface RebuildOptions {
  readonly onProgress?: OnProgress;
  /** Aborting it leaves what is done, and the next rebuild goes on from there. */
  readonly signal?: AbortSignal;
}

export interface RebuildReport {
  /** Where this run began: 0, the snapshot, or where one before it broke off. */
  readonly from: number;
  readonly resumed: boolean;
  /** Position of the log at the switch. */
  readonly position: number;
  /** Projected in this run. */
  readonly events: number;
  readonly records: number;
  /** Of the replay, without indexes and switch. */
  readonly replaySeconds: number;
  /** How long the live projection waited. */
  readonly switchSeconds: number;
}

/**
 * Projects the whole log into new tables and puts them in the place of the live ones; events are projected meanwhile, and wait
 * only for the switch, behind which the log says who had it done. A rebuild that broke off goes on where it was. Throws
 * CopyInUseError while another process rebuilds, ProjectionCopyError when a half-done one does not fit the tables any more,
 * UnprojectableEventError, SwitchBlockedError.
 */
export async function rebuildProjections(
  database: Database,
  { actor, incarnation }: Administrator,
  options: RebuildOptions = {},
): Promise<RebuildReport> {
  const { onProgress = () => undefined, signal } = options;
  return await exclusively(database, REBUILD_SCHEMA, async () => {
    // The switch asks again, hours later.
    await readDependents(database);
    await dropSchema(database, REPLACED_SCHEMA);
    onProgress({ phase: 'copy' });
    const found = await findHalfDone(database);
    const copy = found ?? (await beginCopy(database, REBUILD_SCHEMA));
    const begin = { from: copy.position, resumed: found !== undefined };
    const done = await catchUp(database, copy, onProgress, { signal });
    onProgress({ phase: 'switch' });
    const record = (trx: DatabaseTransaction, position: number) =>
      appendAdminEvent(trx, incarnation, { type: 'projections.rebuilt', data: { ...begin, position, actor } });
    const { position, seconds } = await switchWhenFree(database, { ...copy, position: done.position }, record, signal);
    onProgress({ phase: 'drop' });
    await dropSchema(database, REPLACED_SCHEMA);
    return {
      ...begin,
      position,
      events: done.events,
      records: done.records,
      replaySeconds: done.seconds,
      switchSeconds: seconds,
    };
  });
}

/** One that broke off, if it can go on. What it had still to read may not be kept any more, when it was long ago: then the snapshot is further. */
async function findHalfDone(database: Database): Promise<ProjectionCopy | undefined> {
  const found = await findCopy(database, REBUILD_SCHEMA);
  if (found === undefined) return undefined;
  const [next] = await readEntries(database, found.position, 1);
  if (next === undefined || next.position === found.position + 1) return found;
  const snapshot = await findCopy(database, SNAPSHOT_SCHEMA);
  if (snapshot === undefined || snapshot.position <= found.position) return found;
  await discardCopy(database, REBUILD_SCHEMA);
  return undefined;
}

/** Drops a rebuild that is not done. Says whether there was one. Throws CopyInUseError while it is under way. */
export async function discardRebuild(database: Database): Promise<boolean> {
  return await exclusively(database, REBUILD_SCHEMA, async () => {
    const row = await database
      .selectFrom('projection_copies')
      .select('position')
      .where('schema', '=', REBUILD_SCHEMA)
      .executeTakeFirst();
    await discardCopy(database, REBUILD_SCHEMA);
    await dropSchema(database, REPLACED_SCHEMA);
    return row !== undefined;
  });
}

/** Says in the log that the tables were replaced by those projected up to a position. */
type RecordSwitch = (trx: DatabaseTransaction, position: number) => Promise<void>;

async function switchWhenFree(
  database: Database,
  copy: ProjectionCopy,
  record: RecordSwitch,
  signal: AbortSignal | undefined,
): Promise<{ position: number; seconds: number }> {
  let { position } = copy;
  for (let attempt = 1; ; attempt++) {
    signal?.throwIfAborted();
    try {
      return await switchNow(database, { ...copy, position }, record);
    } catch (error) {
      if (!LOCKED_CODES.has(errorCode(error) ?? '')) throw error;
      if (attempt >= SWITCH_ATTEMPTS) throw new SwitchBlockedError(error);
    }
    await delay(SWITCH_PAUSE_MS, undefined, { signal });
    position = await replayLog(database, copy.schema, position, {
      through: await readNewestPosition(database),
      signal,
    });
  }
}

async function switchNow(
  database: Database,
  { schema, definitions, position }: ProjectionCopy,
  record: RecordSwitch,
): Promise<{ position: number; seconds: number }> {
  return await database.transaction().execute(async (trx) => {
    await lockProjections(trx);
    const lockedAt = performance.now();
    const through = await readNewestPosition(trx);
    await projectInto(trx, schema, position, await readEntries(trx, position, through - position, through));
    await switchTables(trx, schema, definitions);
    await record(trx, through);
    return { position: through, seconds: (performance.now() - lockedAt) / 1_000 };
  });
}
