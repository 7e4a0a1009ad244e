import { type RawBuilder, sql } from 'kysely';
import type { DatabaseTransaction } from './database.ts';
import { encodeArray, wireTypeOf } from './encode-array.ts';
import { send } from './send.ts';
import type { Tables } from './tables.ts';

/** A column to fill: its Postgres type and where its values come from. */
export interface Column<R> {
  readonly type: string;
  readonly value: (row: R) => unknown;
}

/**
 * Inserts any number of rows in one statement, one array parameter a column (`unnest`): many times faster than a
 * parameter for each value. `onConflict` is what follows the rows.
 */
export async function insertRows<R>(
  trx: DatabaseTransaction,
  table: keyof Tables,
  columns: Readonly<Record<string, Column<R>>>,
  rows: readonly R[],
  onConflict: RawBuilder<unknown> = sql``,
): Promise<void> {
  if (rows.length === 0) return;
  const names = Object.keys(columns).map((name) => sql.ref(name));
  const insert = sql`
    INSERT INTO ${sql.table(table)} (${sql.join(names)})
    SELECT ${sql.join(unnestColumns(columns, rows))}
    ${onConflict}`;
  await send(trx, insert);
}

/**
 * What to SELECT so that the result is `rows`, with the names of `columns`. In the list of what is selected, `unnest` hands on row by
 * row; in FROM, Postgres would first write all of them down.
 */
export function unnestColumns<R>(
  columns: Readonly<Record<string, Column<R>>>,
  rows: readonly R[],
): RawBuilder<unknown>[] {
  return Object.entries(columns).map(([name, column]) => {
    const cast = column.type === wireTypeOf(column.type) ? sql`` : sql`::${sql.raw(column.type)}`;
    return sql`unnest(${arrayOf(column, rows)})${cast} AS ${sql.ref(name)}`;
  });
}

/** `unnest` of one array parameter a column; those of some types are text, see `wireTypeOf`. */
export function unnestOf<R>(columns: Readonly<Record<string, Column<R>>>, rows: readonly R[]): RawBuilder<unknown> {
  return sql`unnest(${sql.join(Object.values(columns).map((column) => arrayOf(column, rows)))})`;
}

function arrayOf<R>({ type, value }: Column<R>, rows: readonly R[]): RawBuilder<unknown> {
  return sql`${encodeArray(type, rows, value)}::${sql.raw(wireTypeOf(type))}[]`;
}

/** `ON CONFLICT (keys) DO UPDATE` that overwrites all other columns. */
export function overwrite(keys: readonly string[], columns: Readonly<Record<string, unknown>>): RawBuilder<unknown> {
  const changed = Object.keys(columns).filter((name) => !keys.includes(name));
  const assignments = changed.map((name) => sql`${sql.ref(name)} = excluded.${sql.ref(name)}`);
  return sql`ON CONFLICT (${sql.join(keys.map((key) => sql.ref(key)))}) DO UPDATE SET ${sql.join(assignments)}`;
}

/** Milliseconds since 1970 as the text of a timestamptz. */
export function timestamp(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}
