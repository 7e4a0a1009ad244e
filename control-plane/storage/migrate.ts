import { promises as fs } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { sql } from 'kysely';
import { FileMigrationProvider, Migrator } from 'kysely/migration';
import { CodedError } from '../../shared/errors.ts';
import type { Database } from './database.ts';

const MIGRATIONS = path.resolve(import.meta.dirname, '../../migrations');

export class MigrationError extends CodedError {
  constructor(what: string, cause: unknown) {
    super('MIGRATION_FAILED', what, { cause });
  }
}

/**
 * Brings the schema up to date (or to the migration `to`); replicas that start together wait for each other. Returns the names of the migrations
 * that ran. Throws MigrationError, and then nothing has changed.
 */
export async function migrate(database: Database, to?: string): Promise<string[]> {
  const migrator = migratorOf(database);
  const { error, results = [] } = await (to === undefined ? migrator.migrateToLatest() : migrator.migrateTo(to));
  const failed = results.find(({ status }) => status === 'Error');
  if (error !== undefined) throw new MigrationError(failed ? `migration ${failed.migrationName}` : 'migrations', error);
  return results.map(({ migrationName }) => migrationName);
}

/** The schema is not the one that this build works on. */
export class SchemaVersionError extends CodedError {
  constructor(what: string) {
    super('SCHEMA_VERSION', what);
  }
}

/** Throws SchemaVersionError unless exactly the migrations of this build have run. */
export async function checkSchemaVersion(database: Database): Promise<void> {
  const known = await migratorOf(database).getMigrations();
  const lacking = known.find(({ executedAt }) => executedAt === undefined);
  if (lacking !== undefined) {
    throw new SchemaVersionError(
      `the database lacks tables of this version (${lacking.name}); the control plane makes them when it starts`,
    );
  }
  const { rows } = await sql<{ name: string }>`
    SELECT name FROM kysely_migration WHERE name <> ALL(${known.map(({ name }) => name)}) ORDER BY name LIMIT 1`.execute(
    database,
  );
  const [later] = rows;
  if (later !== undefined) {
    throw new SchemaVersionError(`the database is of another version (${later.name}): use the commands of that one`);
  }
}

function migratorOf(database: Database): Migrator {
  const provider = new FileMigrationProvider({
    fs,
    path,
    migrationFolder: MIGRATIONS,
    import: (file) => import(pathToFileURL(file).href),
  });
  return new Migrator({ db: database, provider });
}
