import { type RawBuilder, sql } from 'kysely';
import type { ProjectionTable } from '../projections/projection-tables.ts';
import { LIVE_SCHEMA, type TableDefinition } from '../rebuild/table-definitions.ts';
import type { Database } from '../storage/database.ts';
import type { Difference } from './difference.ts';

type Row = Readonly<Record<string, unknown>>;

/** Sums of fractions that differ by less than this part of them are equal (ours): they were added in another order. */
const RELATIVE_TOLERANCE = 1e-9;

/** Some of the differences, and how many there are in all. */
export interface Findings {
  readonly differences: readonly Difference[];
  readonly count: number;
}

/**
 * Compares a live table with its copy in another schema, as the caller's transaction sees them. At most `limit` differences are
 * told, those with the lowest keys. Of a table that is partitioned by position, rows before `firstPosition` are left out.
 */
export async function compareTable(
  database: Database,
  table: ProjectionTable,
  { columns }: TableDefinition,
  schema: string,
  firstPosition: number,
  limit: number,
): Promise<Findings> {
  const { name, key, ignored = [], approximate = [], partitionedBy } = table;
  const compared = columns
    .map((column) => column.name)
    .filter((column) => !ignored.includes(column) && !approximate.includes(column))
    .map((column) => sql.ref(column));
  const where = partitionedBy === undefined ? sql`` : sql`WHERE position >= ${firstPosition}`;
  const rows = (from: string) => sql`SELECT ${sql.join(compared)} FROM ${sql.id(from, name)} ${where}`;
  const only = (from: string, other: string) => sql`
    SELECT ${keyObject(key)} AS key, to_jsonb(d) AS row FROM (${rows(from)} EXCEPT ALL ${rows(other)}) d`;
  const { rows: found } = await sql<{ count: number; differences: Array<{ key: Row; live: Row; rebuilt: Row }> }>`
    WITH live AS MATERIALIZED (${only(LIVE_SCHEMA, schema)}),
    rebuilt AS MATERIALIZED (${only(schema, LIVE_SCHEMA)}),
    pairs AS MATERIALIZED (
      SELECT coalesce(live.key, rebuilt.key) AS key, live.row AS live, rebuilt.row AS rebuilt
      FROM live FULL JOIN rebuilt ON live.key = rebuilt.key
      ${approximately(table, schema)}
    )
    SELECT (SELECT count(*) FROM pairs) AS count,
      (SELECT coalesce(json_agg(p), '[]') FROM (SELECT * FROM pairs ORDER BY key LIMIT ${limit}) p) AS differences
    `.execute(database);
  const { count = 0, differences = [] } = found[0] ?? {};
  // jsonb, which keys are compared as, forgets the order of the columns.
  const inOrder = (row: Row) => Object.fromEntries(key.map((column) => [column, row[column]]));
  return {
    count,
    differences: differences.map((pair) => ({ type: 'row', table: name, ...pair, key: inOrder(pair.key) })),
  };
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
