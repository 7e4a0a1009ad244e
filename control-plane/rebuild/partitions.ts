import { sql } from 'kysely';
import type { Database } from '../storage/database.ts';

/** A part of a table that is partitioned by position: those from `from` up to, but not with, `to`. */
export interface Partition {
  readonly name: string;
  readonly from: number;
  readonly to: number;
}

/** The partitions of a table, oldest first; none for a plain table. */
export async function readPartitions(database: Database, schema: string, table: string): Promise<Partition[]> {
  const { rows } = await sql<{ name: string; bounds: string }>`
    SELECT c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bounds
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class parent ON parent.oid = i.inhparent
    WHERE parent.relnamespace = to_regnamespace(${schema}) AND parent.relname = ${table}
      AND parent.relkind = 'p'`.execute(database);
  return rows.map(({ name, bounds }) => ({ name, ...parseBounds(bounds) })).sort((a, b) => a.from - b.from);
}

function parseBounds(bounds: string): { from: number; to: number } {
  const match = /FROM \('(\d+)'\) TO \('(\d+)'\)/.exec(bounds);
  if (match === null) throw new Error(`a partition has the bounds ${bounds}, expected two positions`);
  return { from: Number(match[1]), to: Number(match[2]) };
}
