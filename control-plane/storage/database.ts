import { Kysely, PostgresDialect, type Transaction } from 'kysely';
import pg from 'pg';
import { CodedError } from '../../shared/errors.ts';
import type { Tables } from './tables.ts';

/** Ours: a statement that takes longer is broken off, so nothing hangs. */
const STATEMENT_TIMEOUT_MS = 30_000;
/** Ours: a transaction whose process stands still is broken off: others wait for the locks that it holds. */
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 5_000;
const CONNECT_TIMEOUT_MS = 5_000;
const MAX_CONNECTIONS = 10;

export type Database = Kysely<Tables>;
export type DatabaseTransaction = Transaction<Tables>;

export class UnsafeIntegerError extends CodedError {
  constructor(text: string) {
    super('UNSAFE_INTEGER', `Postgres returned ${text}, which a JavaScript number cannot hold exactly`);
  }
}

/** bigint of Postgres as a number. Throws UnsafeIntegerError beyond 2^53 - 1 rather than rounding. */
export function parseInt8(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new UnsafeIntegerError(text);
  return value;
}

const types = new pg.TypeOverrides();
types.setTypeParser(pg.types.builtins.INT8, parseInt8);
const INT8_ARRAY = 1016;
types.setTypeParser(INT8_ARRAY, (text: string) => (text === '{}' ? [] : text.slice(1, -1).split(',').map(parseInt8)));
// A date has no time zone, so it stays text.
types.setTypeParser(pg.types.builtins.DATE, (text: string) => text);
const INET_ARRAY = 1041;
types.setTypeParser(INET_ARRAY, (text: string) => (text === '{}' ? [] : text.slice(1, -1).split(',')));

/** A pool of connections to Postgres, none of which is opened yet. `applicationName` shows in pg_stat_activity. */
export function createPool(url: string, applicationName: string, onError: (error: Error) => void): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    application_name: applicationName,
    max: MAX_CONNECTIONS,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_TIMEOUT_MS,
    keepAlive: true,
    // For `send`: a statement goes to Postgres before the ones ahead of it have ended.
    pipeline: true,
    types,
  });
  // An idle connection that breaks is replaced by the pool; without a listener it would end the process.
  pool.on('error', onError);
  // The same for one that breaks between two statements of a transaction; the next statement reports it.
  pool.on('connect', (client) => client.on('error', () => undefined));
  return pool;
}

export function createDatabase(pool: pg.Pool): Database {
  return new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
}
