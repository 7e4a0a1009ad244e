import { type RawBuilder, sql } from 'kysely';
import type { ProjectionTable } from '../projections/projection-tables.ts';
import { LIVE_SCHEMA, type TableDefinition } from '../rebuild/table-definitions.ts';
import type { Database } from '../storage/database.ts';
import { type Telling, tell } from './tell.ts';

type Row = Readonly<Record<string, unknown>>;

/** Sums of fractions that differ by less than this part of them are equal (ours): they were added in another order. */
const RELATIVE_TOLERANCE = 1e-9;

/**
 * Compares a live table with its copy in another schema, as the caller's transaction sees them, and returns the number of
 * differences. Those with the lowest keys are told first. Of a table that is partitioned by position, rows before `firstPosition`
 * are left out.
 */
export async function compareTable(
  database: Database,
  table: ProjectionTable,
  { columns }: TableDefinition,
  schema: string,
  firstPosition: number,
  telling: Telling,
): Promise<number> {
  const { name, key, ignored = [], approximate = [], partitionedBy } = table;
  const compared = columns
    .map((column) => column.name)
    .filter((column) => !ignored.includes(column) && !approximate.includes(column))
    .map((column) => sql.ref(column));
  const where = partitionedBy === undefined ? sql`` : sql`WHERE position >= ${firstPosition}`;
  const rows = (from: string) => sql`SELECT ${sql.join(compared)} FROM ${sql.id(from, name)} ${where}`;
  const only = (from: string, other: string) => sql`
    SELECT ${keyObject(key)} AS key, to_jsonb(d) AS row FROM (${rows(from)} EXCEPT ALL ${rows(other)}) d`;
  // jsonb, which keys are compared as, forgets the order of the columns.
  const inOrder = (row: Row) => Object.fromEntries(key.map((column) => [column, row[column]]));
  return await tell(
    database,
    sql<{ key: Row; live: Row | null; rebuilt: Row | null }>`
      WITH live AS MATERIALIZED (${only(LIVE_SCHEMA, schema)}),
      rebuilt AS MATERIALIZED (${only(schema, LIVE_SCHEMA)})
      SELECT coalesce(live.key, rebuilt.key) AS key, live.row AS live, rebuilt.row AS rebuilt
      FROM live FULL JOIN rebuilt ON live.key = rebuilt.key
      ${approximately(table, schema)}`,
    telling,
    ({ key: values, live, rebuilt }) => ({ type: 'row', table: name, key: inOrder(values), live, rebuilt }),
  );
}

function approximately({ name, key, approximate = [] }: ProjectionTable, schema: string): RawBuilder<unknown> {
  const differs = approximate.map((column) => {
    const [live, rebuilt] = [sql.ref(`live.${column}`), sql.ref(`rebuilt.${column}`)];
    return sql`
      UNION ALL
      SELECT ${keyObject(key, 'live')}, jsonb_build_object(${sql.lit(column)}, ${live}),
        jsonb_build_object(${sql.lit(column)}, ${rebuilt})
      FROM ${sql.id(LIVE_SCHEMA, name)} live JOIN ${sql.id(schema, name)} rebuilt USING (${sql.join(key.map((column) => sql.ref(column)))})
      WHERE abs(${live} - ${rebuilt}) > ${RELATIVE_TOLERANCE} * greatest(abs(${live}), abs(${rebuilt}), 1)`;
  });
  return sql.join(differs, sql` `);
}

function keyObject(key: readonly string[], table = 'd'): RawBuilder<unknown> {
  return sql`jsonb_build_object(${sql.join(key.flatMap((column) => [sql.lit(column), sql.ref(`${table}.${column}`)]))})`;
}
