import { sql } from 'kysely';
import { PROJECTION_TABLES } from '../projections/projection-tables.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { readDependents, type TableDependents } from './dependents.ts';
import { readPartitions } from './partitions.ts';
import { ProjectionCopyError } from './projection-copy.ts';
import { onTable, projectionOf, useSchema } from './shadow-tables.ts';
import { findMisfit, LIVE_SCHEMA, readDefinitions, type TableDefinition } from './table-definitions.ts';

/** Schema that the former tables are in until they are dropped. */
export const REPLACED_SCHEMA = 'replaced';
/** How long readers of the tables may keep the switch waiting (ours): others wait behind it. */
const LOCK_TIMEOUT_MS = 1_000;

/**
 * Puts the tables of a schema in the place of the live ones, which move to REPLACED_SCHEMA; views, functions, triggers,
 * grants and comments stay as they are. The caller holds the projection lock. Throws ProjectionCopyError where the
 * live tables have changed since, or something depends on them that cannot be moved.
 */
export async function switchTables(
  trx: DatabaseTransaction,
  schema: string,
  expected: readonly TableDefinition[],
): Promise<void> {
  await useSchema(trx, LIVE_SCHEMA);
  const live = sql.join(PROJECTION_TABLES.map(({ name }) => sql.id(LIVE_SCHEMA, name)));
  await sql`SET LOCAL lock_timeout = ${sql.lit(LOCK_TIMEOUT_MS)}`.execute(trx);
  await sql`LOCK TABLE ${live} IN ACCESS EXCLUSIVE MODE`.execute(trx);
  const definitions = await readDefinitions(trx);
  const misfit = findMisfit(definitions, await readDefinitions(trx, schema)) ?? findNewIndex(definitions, expected);
  if (misfit !== undefined) {
    throw new ProjectionCopyError(`the live tables have changed since the rebuild began: ${misfit} is another`);
  }
  const dependents = await readDependents(trx);
  for (const { name } of definitions) await carryOver(trx, schema, name);
  await sql`CREATE SCHEMA ${sql.id(REPLACED_SCHEMA)}`.execute(trx);
  for (const { name } of definitions) {
    await moveTable(trx, name, LIVE_SCHEMA, REPLACED_SCHEMA);
    await moveTable(trx, name, schema, LIVE_SCHEMA);
  }
  for (const definition of definitions) await dress(trx, definition);
  await restoreDependents(trx, dependents);
  await sql`DROP SCHEMA ${sql.id(schema)}`.execute(trx);
  await trx.deleteFrom('projection_copies').where('schema', '=', schema).execute();
}

function findNewIndex(live: readonly TableDefinition[], made: readonly TableDefinition[]): string | undefined {
  const known = new Set(made.flatMap(({ indexes }) => indexes.map(({ name, definition }) => name + definition)));
  return live.flatMap(({ indexes }) => indexes).find(({ name, definition }) => !known.has(name + definition))?.name;
}

/** What metrics keep in a table beside what follows from the log. */
async function carryOver(trx: DatabaseTransaction, schema: string, table: string): Promise<void> {
  const { key, carried = [] } = projectionOf(table);
  if (carried.length === 0) return;
  const columns = sql.join(carried.map((column) => sql`${sql.ref(column)} = live.${sql.ref(column)}`));
  const isSame = sql.join(
    key.map((column) => sql`live.${sql.ref(column)} = made.${sql.ref(column)}`),
    sql` AND `,
  );
  const differs = sql.join(
    carried.map((column) => sql`live.${sql.ref(column)} IS DISTINCT FROM made.${sql.ref(column)}`),
    sql` OR `,
  );
  await sql`
    UPDATE ${sql.id(schema, table)} made SET ${columns}
    FROM ${sql.id(LIVE_SCHEMA, table)} live WHERE ${isSame} AND (${differs})`.execute(trx);
}

/** A partitioned table moves without its partitions. */
async function moveTable(trx: DatabaseTransaction, table: string, from: string, to: string): Promise<void> {
  const partitions = await readPartitions(trx, from, table);
  for (const name of [table, ...partitions.map((partition) => partition.name)]) {
    await sql`ALTER TABLE ${sql.id(from, name)} SET SCHEMA ${sql.id(to)}`.execute(trx);
  }
}

/** Gives a new table what its predecessor had beside columns and indexes. */
async function dress(trx: DatabaseTransaction, definition: TableDefinition): Promise<void> {
  const { name, owner, comment, triggers, grants } = definition;
  const table = sql.id(LIVE_SCHEMA, name);
  if (comment !== null) await sql`COMMENT ON TABLE ${table} IS ${sql.lit(comment)}`.execute(trx);
  for (const trigger of triggers) {
    await sql.raw(trigger.replace(onTable(name), ` ON ${LIVE_SCHEMA}.${name} `)).execute(trx);
  }
  for (const part of [{ name }, ...(await readPartitions(trx, LIVE_SCHEMA, name))]) {
    await sql`ALTER TABLE ${sql.id(LIVE_SCHEMA, part.name)} OWNER TO ${sql.id(owner)}`.execute(trx);
  }
  for (const { privilege, column, grantee, grantable } of grants) {
    const columns = column === null ? sql`` : sql`(${sql.id(column)})`;
    const to = grantee === null ? sql`PUBLIC` : sql.id(grantee);
    const option = grantable ? sql`WITH GRANT OPTION` : sql``;
    await sql`GRANT ${sql.raw(privilege)} ${columns} ON ${table} TO ${to} ${option}`.execute(trx);
  }
}

/** Views and functions are replaced by themselves, so that the names in them mean the new tables. */
async function restoreDependents(trx: DatabaseTransaction, { views, functions }: TableDependents): Promise<void> {
  for (const { name, options, definition } of views) {
    const storage = options.length === 0 ? sql`` : sql`WITH (${sql.raw(options.join(', '))})`;
    await sql`CREATE OR REPLACE VIEW ${sql.raw(name)} ${storage} AS ${sql.raw(definition)}`.execute(trx);
  }
  for (const definition of functions) await sql.raw(definition).execute(trx);
}
