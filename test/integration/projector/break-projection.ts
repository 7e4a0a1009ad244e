import { sql } from 'kysely';
import type { TestLog } from './test-log.ts';

/** Makes events of the type fail, as a bug of a projection would, until the bug is fixed. */
export async function breakProjection(log: TestLog, table: string, condition: string): Promise<() => Promise<void>> {
  await sql`
    CREATE FUNCTION bug() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a bug'; END $$;
    CREATE TRIGGER bug BEFORE INSERT ON ${sql.table(table)} FOR EACH ROW WHEN (${sql.raw(condition)})
      EXECUTE FUNCTION bug()`.execute(log.database);
  return async () => void (await sql`DROP FUNCTION bug CASCADE`.execute(log.database));
}
