import { promises as fs } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
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
  const provider = new FileMigrationProvider({
    fs,
    path,
    migrationFolder: MIGRATIONS,
    import: (file) => import(pathToFileURL(file).href),
  });
  const migrator = new Migrator({ db: database, provider });
  const { error, results = [] } = await (to === undefined ? migrator.migrateToLatest() : migrator.migrateTo(to));
  const failed = results.find(({ status }) => status === 'Error');
  if (error !== undefined) throw new MigrationError(failed ? `migration ${failed.migrationName}` : 'migrations', error);
  return results.map(({ migrationName }) => migrationName);
}
