import { type RawBuilder, sql } from 'kysely';
import { PROJECTION_TABLES, type ProjectionTable } from '../projections/projection-tables.ts';
import type { Database, DatabaseTransaction } from '../storage/database.ts';
import { type IndexDefinition, LIVE_SCHEMA, type TableDefinition } from './table-definitions.ts';

/** Lets the unqualified names of the projections mean the tables of `schema` until the transaction ends. */
export async function useSchema(trx: DatabaseTransaction, schema: string): Promise<void> {
  await sql`SET LOCAL search_path = ${sql.id(schema)}, ${sql.id(LIVE_SCHEMA)}`.execute(trx);
}

/**
 * Makes empty tables like the live ones in a new schema, with what the projections need to find rows; `addMissingIndexes`
 * makes the rest.
 */
export async function createShadowTables(
  trx: DatabaseTransaction,
  schema: string,
  definitions: readonly TableDefinition[],
): Promise<void> {
  await sql`CREATE SCHEMA ${sql.id(schema)}`.execute(trx);
  for (const definition of definitions) {
    const { name, partitionKey, options, indexes } = definition;
    const partitions = partitionKey === null ? sql`` : sql`PARTITION BY ${sql.raw(partitionKey)}`;
    const storage = options.length === 0 ? sql`` : sql`WITH (${sql.raw(options.join(', '))})`;
    await sql`
      CREATE TABLE ${sql.id(schema, name)} (LIKE ${sql.id(LIVE_SCHEMA, name)} INCLUDING ALL EXCLUDING INDEXES)
      ${partitions} ${storage}`.execute(trx);
    const isDeferred = deferredOf(name);
    await addIndexes(
      trx,
      schema,
      name,
      indexes.filter((index) => !isDeferred(index)),
    );
  }
}

/** The rows that are there before the first event. */
export async function insertInitialRows(trx: DatabaseTransaction, schema: string): Promise<void> {
  for (const { name, initially } of PROJECTION_TABLES) {
    if (initially === undefined) continue;
    const table = sql.id(schema, name);
    const columns = sql.join(Object.keys(initially[0] ?? {}).map((column) => sql.ref(column)));
    await sql`
      INSERT INTO ${table} (${columns})
      SELECT ${columns} FROM jsonb_populate_recordset(NULL::${table}, ${JSON.stringify(initially)}::jsonb)`.execute(
      trx,
    );
  }
}

/** Makes the indexes that were left for the end, and collects statistics. */
export async function addMissingIndexes(
  database: Database,
  schema: string,
  definitions: readonly TableDefinition[],
  onTable: (done: number) => void,
): Promise<void> {
  for (const [done, { name, indexes }] of definitions.entries()) {
    onTable(done);
    await database.transaction().execute(async (trx) => {
      await sql`SET LOCAL statement_timeout = 0`.execute(trx);
      const present = await indexNames(trx, schema, name);
      await addIndexes(
        trx,
        schema,
        name,
        indexes.filter((index) => !present.has(index.name)),
      );
      await sql`ANALYZE ${sql.id(schema, name)}`.execute(trx);
    });
  }
}

/** Drops a schema of tables, if there is one. Refused by Postgres where anything outside depends on them. */
export async function dropSchema(database: Database, schema: string): Promise<void> {
  await database.transaction().execute(async (trx) => {
    await sql`SET LOCAL statement_timeout = 0`.execute(trx);
    const { rows } = await sql<{ name: string }>`
      SELECT relname AS name FROM pg_class
      WHERE relnamespace = to_regnamespace(${schema}) AND relkind IN ('r', 'p') AND NOT relispartition`.execute(trx);
    const tables = rows.map(({ name }) => sql.id(schema, name));
    if (tables.length > 0) await sql`DROP TABLE ${sql.join(tables)}`.execute(trx);
    await sql`DROP SCHEMA IF EXISTS ${sql.id(schema)}`.execute(trx);
  });
}

/** Copies rows between tables of the same shape, in their order where they have one. */
export async function copyRows(
  trx: DatabaseTransaction,
  { name, columns }: TableDefinition,
  from: string,
  to: string,
  where: RawBuilder<unknown> = sql`true`,
): Promise<void> {
  const writable = sql.join(columns.filter(({ filledBy }) => filledBy === 'us').map((column) => sql.ref(column.name)));
  const identity = columns.find(({ filledBy }) => filledBy === 'identity');
  const order = identity === undefined ? sql`` : sql`ORDER BY ${sql.ref(identity.name)}`;
  await sql`
    INSERT INTO ${sql.id(to, name)} (${writable}) SELECT ${writable} FROM ${sql.id(from, name)} WHERE ${where} ${order}
    `.execute(trx);
}

async function indexNames(trx: DatabaseTransaction, schema: string, table: string): Promise<Set<string>> {
  const { rows } = await sql<{ indexname: string }>`
    SELECT indexname FROM pg_indexes WHERE schemaname = ${schema} AND tablename = ${table}`.execute(trx);
  return new Set(rows.map(({ indexname }) => indexname));
}

async function addIndexes(
  trx: DatabaseTransaction,
  schema: string,
  table: string,
  indexes: readonly IndexDefinition[],
): Promise<void> {
  for (const { name, definition, isConstraint, comment } of indexes) {
    if (isConstraint) {
      await sql`ALTER TABLE ${sql.id(schema, table)} ADD CONSTRAINT ${sql.id(name)} ${sql.raw(definition)}`.execute(
        trx,
      );
    } else {
      await sql.raw(definition.replace(onTable(table), ` ON ${schema}.${table} `)).execute(trx);
    }
    if (comment === null) continue;
    const what = isConstraint
      ? sql`CONSTRAINT ${sql.id(name)} ON ${sql.id(schema, table)}`
      : sql`INDEX ${sql.id(schema, name)}`;
    await sql`COMMENT ON ${what} IS ${sql.lit(comment)}`.execute(trx);
  }
}

/** Where the definition of an index or a trigger names its table. */
export function onTable(table: string): RegExp {
  return new RegExp(` ON (ONLY )?${LIVE_SCHEMA}\\.${table} `);
}

function deferredOf(table: string): (index: IndexDefinition) => boolean {
  const { deferred = [] } = projectionOf(table);
  return ({ name }) => deferred.includes(name);
}

export function projectionOf(table: string): ProjectionTable {
  const found = PROJECTION_TABLES.find(({ name }) => name === table);
  if (found === undefined) throw new Error(`${table} is no projection table`);
  return found;
}
