import { type Kysely, type RawBuilder, sql } from 'kysely';

/** What a table and its columns mean. Every column has to be named, which `test/integration/projector` checks. */
export interface TableComment {
  readonly is: string;
  readonly columns: Readonly<Record<string, string>>;
}

/** Writes the meaning of tables (or views) and columns into the database, where an auditor's `\d+` shows it. */
export async function commentOn(
  db: Kysely<unknown>,
  comments: Readonly<Record<string, TableComment>>,
  kind: 'TABLE' | 'VIEW' = 'TABLE',
): Promise<void> {
  const statements = Object.entries(comments).flatMap(([table, { is, columns }]) => [
    sql`COMMENT ON ${sql.raw(kind)} ${sql.table(table)} IS ${sql.lit(is)}`,
    ...columnComments(table, columns),
  ]);
  await run(db, statements);
}

/** The same for columns that are added to tables which have their comment already. */
export async function commentOnColumns(
  db: Kysely<unknown>,
  comments: Readonly<Record<string, TableComment['columns']>>,
): Promise<void> {
  await run(
    db,
    Object.entries(comments).flatMap(([table, columns]) => columnComments(table, columns)),
  );
}

function columnComments(table: string, columns: TableComment['columns']): RawBuilder<unknown>[] {
  return Object.entries(columns).map(
    ([column, text]) => sql`COMMENT ON COLUMN ${sql.table(table)}.${sql.ref(column)} IS ${sql.lit(text)}`,
  );
}

async function run(db: Kysely<unknown>, statements: readonly RawBuilder<unknown>[]): Promise<void> {
  await sql`${sql.join(statements, sql`; `)}`.execute(db).catch((error: unknown) => {
    throw new Error('the comments of a migration do not fit its tables', { cause: error });
  });
}
