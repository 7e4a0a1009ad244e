import { sql } from 'kysely';
import { CodedError } from '../../shared/errors.ts';
import { holdProjectionTables } from '../projections/hold-tables.ts';
import type { Database, DatabaseTransaction } from '../storage/database.ts';
import { readPartitions } from './partitions.ts';
import { copyRows, createShadowTables, insertInitialRows, projectionOf, useSchema } from './shadow-tables.ts';
import { findMisfit, LIVE_SCHEMA, readDefinitions, type TableDefinition } from './table-definitions.ts';

/** Schema of the projections as of the oldest position that the log can do without. */
export const SNAPSHOT_SCHEMA = 'snapshot';

/** Projections as of some position, in a schema beside the live ones. */
export interface ProjectionCopy {
  readonly schema: string;
  readonly definitions: readonly TableDefinition[];
  /** Position that it began behind. */
  readonly from: number;
  /** Position up to which its tables are filled. */
  readonly position: number;
}

export class ProjectionCopyError extends CodedError {
  constructor(what: string) {
    super('PROJECTION_COPY', what);
  }
}

/** A copy that is there already, if any. Throws ProjectionCopyError where it does not fit the live tables any more. */
export async function findCopy(database: Database, schema: string): Promise<ProjectionCopy | undefined> {
  const row = await database
    .selectFrom('projection_copies')
    .selectAll()
    .where('schema', '=', schema)
    .executeTakeFirst();
  if (row === undefined) return undefined;
  const definitions = await readDefinitions(database);
  const misfit = findMisfit(definitions, await readDefinitions(database, schema));
  if (misfit !== undefined) {
    throw new ProjectionCopyError(
      `the tables in schema "${schema}" are of another version: ${misfit} has other columns`,
    );
  }
  return { schema, definitions, from: row.from_position, position: row.position };
}

/**
 * Makes a copy of the projections as of the snapshot, or as of the beginning where there is none; all of it in one
 * transaction, in which `guard` runs before anything is read or written. Throws what that throws, and ProjectionCopyError where the
 * snapshot is of another version of the projections.
 */
export async function beginCopy(
  database: Database,
  schema: string,
  guard?: (trx: DatabaseTransaction) => Promise<void>,
): Promise<ProjectionCopy> {
  return await database
    .transaction()
    .setIsolationLevel('repeatable read')
    .execute(async (trx) => {
      await sql`SET LOCAL statement_timeout = 0`.execute(trx);
      // Before anything is read: the events that it begins behind must not be dropped between its snapshot and its row.
      await sql`LOCK TABLE projection_copies IN ROW EXCLUSIVE MODE`.execute(trx);
      await holdProjectionTables(trx);
      // The first that reads: where it waited, what it waited for is in the one snapshot of this transaction.
      await guard?.(trx);
      const snapshot = schema === SNAPSHOT_SCHEMA ? undefined : await findCopy(trx, SNAPSHOT_SCHEMA);
      const definitions = snapshot?.definitions ?? (await readDefinitions(trx));
      const from = snapshot?.position ?? 0;
      await createShadowTables(trx, schema, definitions);
      await useSchema(trx, schema);
      if (snapshot === undefined) await insertInitialRows(trx, schema);
      else await copySnapshot(trx, snapshot, schema);
      await trx.insertInto('projection_copies').values({ schema, from_position: from, position: from }).execute();
      return { schema, definitions, from, position: from };
    });
}

async function copySnapshot(trx: DatabaseTransaction, snapshot: ProjectionCopy, schema: string): Promise<void> {
  for (const definition of snapshot.definitions) {
    const { name } = definition;
    const { partitionedBy } = projectionOf(name);
    if (partitionedBy === undefined) {
      await copyRows(trx, definition, SNAPSHOT_SCHEMA, schema);
      continue;
    }
    // Of these rows the snapshot keeps what follows from them, and only the newest ones themselves.
    const { rows } = await sql<{ kept: number }>`
      SELECT coalesce(min(position), ${snapshot.position}::bigint + 1) AS kept FROM ${sql.id(SNAPSHOT_SCHEMA, name)}
      `.execute(trx);
    const kept = rows[0]!.kept;
    const older = (await readPartitions(trx, LIVE_SCHEMA, name)).filter(({ from }) => from < kept);
    for (const position of [...older.map(({ from }) => from), kept]) {
      await sql`SELECT ${sql.id(partitionedBy)}(${position}::bigint)`.execute(trx);
    }
    await copyRows(trx, definition, LIVE_SCHEMA, schema, sql`position < ${kept}`);
    await copyRows(trx, definition, SNAPSHOT_SCHEMA, schema);
  }
}

/** Forgets a copy and drops its tables. */
export async function discardCopy(database: Database, schema: string): Promise<void> {
  await database.transaction().execute(async (trx) => {
    await sql`SET LOCAL statement_timeout = 0`.execute(trx);
    await sql`DROP SCHEMA IF EXISTS ${sql.id(schema)} CASCADE`.execute(trx);
    await trx.deleteFrom('projection_copies').where('schema', '=', schema).execute();
  });
}
