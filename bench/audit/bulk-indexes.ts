import type pg from 'pg';

/** Takes all indexes off a table, unique ones and constraints too. Returns the statements that make them again, as indexes. */
export async function dropIndexes(client: pg.Client, table: string): Promise<string[]> {
  const { rows } = await client.query<{ index: string; definition: string; constraint: string | null }>(
    `SELECT i.indexrelid::regclass::text AS index, pg_get_indexdef(i.indexrelid) AS definition, quote_ident(c.conname) AS constraint
     FROM pg_index i LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.contype IN ('p', 'u', 'x')
     WHERE i.indrelid = $1::regclass ORDER BY i.indexrelid`,
    [table],
  );
  for (const { index, constraint } of rows) {
    await client.query(
      constraint === null ? `DROP INDEX ${index}` : `ALTER TABLE ${table} DROP CONSTRAINT ${constraint}`,
    );
  }
  return rows.map(({ definition }) => definition.replace(' ON ONLY ', ' ON '));
}
