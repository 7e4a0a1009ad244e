import { sql } from 'kysely';
import { readEntries } from '../log/read-entries.ts';
import { readNewestPosition } from '../log/read-newest-position.ts';
import { foldTraffic } from '../projections/fold-traffic.ts';
import { holdProjectionTables } from '../projections/hold-tables.ts';
import { PROJECTION_TABLES } from '../projections/projection-tables.ts';
import { catchUp } from '../rebuild/catch-up.ts';
import { exclusively } from '../rebuild/exclusively.ts';
import { readPartitions } from '../rebuild/partitions.ts';
import type { OnProgress } from '../rebuild/progress.ts';
import { beginCopy, discardCopy, type ProjectionCopy } from '../rebuild/projection-copy.ts';
import { projectInto } from '../rebuild/replay-log.ts';
import { useSchema } from '../rebuild/shadow-tables.ts';
import { LIVE_SCHEMA } from '../rebuild/table-definitions.ts';
import type { Database, DatabaseTransaction } from '../storage/database.ts';
import { lockProjections } from '../storage/projection-lock.ts';
import { compareTable } from './compare-tables.ts';
import { contradictions, findContradictions } from './contradictions.ts';
import type { Telling } from './tell.ts';

/** Schema of the tables that the live ones are compared with. */
export const VERIFY_SCHEMA = 'verify';

/** Memory for each sort and hash of a comparison (ours). */
const WORK_MEM = '64MB';

export interface VerifyOptions extends Telling {
  readonly onProgress?: OnProgress;
  readonly signal?: AbortSignal;
}

export interface Finding {
  /** Of the table or check. */
  readonly name: string;
  readonly count: number;
}

export interface VerifyReport {
  /** Position of the log that the comparison is of. */
  readonly position: number;
  /** Position behind which the log was projected: 0, or that of the snapshot. */
  readonly from: number;
  readonly events: number;
  readonly records: number;
  readonly replaySeconds: number;
  /** Differences of each table and check, in their order. */
  readonly findings: readonly Finding[];
  readonly differences: number;
}

/**
 * Projects the log anew, compares the live tables with that, and with each other, as of one position. The live projection goes
 * on meanwhile. Throws CopyInUseError while another process verifies, ProjectionCopyError, UnprojectableEventError.
 */
export async function verifyProjections(database: Database, options: VerifyOptions = {}): Promise<VerifyReport> {
  const { onProgress = () => undefined, signal } = options;
  return await exclusively(database, VERIFY_SCHEMA, async () => {
    await discardCopy(database, VERIFY_SCHEMA);
    onProgress({ phase: 'copy' });
    const copy = await beginCopy(database, VERIFY_SCHEMA);
    try {
      const { position: reached, ...replayed } = await catchUp(database, copy, onProgress, {
        signal,
        toleratesHoles: true,
      });
      const { position, findings } = await compare(database, { ...copy, position: reached }, options, onProgress);
      const { events, records, seconds: replaySeconds } = replayed;
      const differences = findings.reduce((sum, { count }) => sum + count, 0);
      return { position, from: copy.from, events, records, replaySeconds, findings, differences };
    } finally {
      await discardCopy(database, VERIFY_SCHEMA);
    }
  });
}

/** Compares in one snapshot of the database, so that it does not matter what is projected meanwhile. */
async function compare(
  database: Database,
  { schema, definitions, from, position: reached }: ProjectionCopy,
  { signal, ...telling }: VerifyOptions,
  onProgress: OnProgress,
): Promise<{ position: number; findings: Finding[] }> {
  return await inSnapshot(database, async (trx) => {
    const position = await readNewestPosition(trx);
    // The little that came meanwhile; it is rolled back with the rest.
    await projectInto(trx, schema, reached, await readEntries(trx, reached, position - reached, position));
    await useSchema(trx, LIVE_SCHEMA);
    const firstTraffic = await readFirstTraffic(trx);
    const checks = contradictions(firstTraffic, from);
    const findings: Finding[] = [];
    const next = (name: string, count: number) => {
      findings.push({ name, count });
      signal?.throwIfAborted();
      onProgress({ phase: 'compare', done: findings.length, tables: PROJECTION_TABLES.length + checks.length });
    };
    for (const table of PROJECTION_TABLES) {
      const definition = definitions.find(({ name }) => name === table.name);
      if (definition === undefined) throw new Error(`${table.name} is not in the catalogue`);
      next(table.name, await compareTable(trx, table, definition, schema, firstTraffic, telling));
    }
    for (const check of checks) next(check.name, await findContradictions(trx, check, telling));
    return { position, findings };
  });
}

/**
 * One snapshot of everything, with the traffic of the live tables folded in, taken when no rebuild can switch tables any more.
 * What `work` writes is rolled back.
 */
async function inSnapshot<R>(database: Database, work: (trx: DatabaseTransaction) => Promise<R>): Promise<R> {
  const trx = await database.startTransaction().setIsolationLevel('repeatable read').execute();
  try {
    await sql`SET LOCAL idle_in_transaction_session_timeout = 0`.execute(trx);
    await whileProjectionsRest(database, async () => {
      await holdProjectionTables(trx);
      await readNewestPosition(trx);
    });
    await sql`SET LOCAL statement_timeout = 0`.execute(trx);
    await sql`SET LOCAL work_mem = ${sql.lit(WORK_MEM)}`.execute(trx);
    return await work(trx);
  } finally {
    await trx.rollback().execute();
  }
}

/** Folds the live traffic, and lets nobody project before `work` is done. */
async function whileProjectionsRest(database: Database, work: () => Promise<void>): Promise<void> {
  // Most of the traffic first: whoever holds the lock below is idle meanwhile, which Postgres allows for seconds only.
  await database.transaction().execute(async (trx) => {
    await lockProjections(trx);
    await foldTraffic(trx);
  });
  await database.transaction().execute(async (holder) => {
    await lockProjections(holder);
    // Committed by itself, since `work` is to see it.
    await database.transaction().execute((trx) => foldTraffic(trx));
    await work();
  });
}

/** Position of the oldest row that can be in `traffic`. */
async function readFirstTraffic(database: Database): Promise<number> {
  const [oldest] = await readPartitions(database, LIVE_SCHEMA, 'traffic');
  return oldest?.from ?? 0;
}
