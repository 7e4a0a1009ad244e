import { existsSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { AUDITOR_ROLE } from '../../control-plane/storage/auditor-role.ts';
import { createDatabase, createPool } from '../../control-plane/storage/database.ts';
import { migrate } from '../../control-plane/storage/migrate.ts';
import { startPostgres } from '../../deploy/local/postgres.ts';
import { PrerequisiteError } from '../../deploy/local/prerequisites.ts';
import { makeDirectory } from '../../shared/make-directory.ts';
import type { BenchContext } from '../bench-context.ts';
import { median } from '../statistics.ts';
import { fill, type Session } from './fill.ts';
import type { AuditOptions } from './options.ts';
import { KEYS, type Question, questions, type Samples } from './questions.ts';
import { type AuditReport, LIMIT_MS, type QuestionFigures, reportAudit } from './report.ts';

/** Times that each key is asked about; the first finds nothing of its rows in Postgres' own memory. */
const REPEATS = 5;
const SHARED_BUFFERS = '1GB';
/** Nothing of this survives a power cut, and nothing of it need. */
const FILL_SETTINGS = {
  shared_buffers: SHARED_BUFFERS,
  fsync: 'off',
  wal_level: 'minimal',
  max_wal_senders: '0',
  max_wal_size: '2GB',
  checkpoint_timeout: '1h',
  autovacuum: 'off',
  maintenance_work_mem: '1GB',
  work_mem: '1GB',
  hash_mem_multiplier: '2',
};
/** As an operator would have it with 4 GB of memory for Postgres; all else is its default. */
const MEASURE_SETTINGS = { shared_buffers: SHARED_BUFFERS, effective_cache_size: '3GB', autovacuum: 'off' };
const BYTES_PER_CONNECTION = 900;
const BYTES_PER_TRAFFIC_ROW = 250;
const BYTES_BESIDES = 2e9;
const AUDITOR = 'bench_auditor';

/** Fills a Postgres of its own, or finds it filled, and asks every question about every key. */
export async function measureAudit(options: AuditOptions, context: BenchContext): Promise<AuditReport> {
  const { progress, signal } = context;
  // A directory of its own, since what is in it is removed where it is not filled as was asked.
  const directory = join(options.data ?? context.directory, 'bench-audit');
  const size = { connections: options.connections, traffic: options.traffic };
  const filledFile = join(directory, 'filled.json');
  const filled = existsSync(filledFile) && readFileSync(filledFile, 'utf8') === JSON.stringify(size);
  let fillSeconds: number | null = null;
  if (!filled) {
    rmSync(directory, { recursive: true, force: true });
    makeDirectory(directory);
    // Gigabytes that nobody can read are no use after a failure.
    if (options.data === undefined) context.atEnd(async () => rmSync(directory, { recursive: true, force: true }));
    demandSpace(directory, size);
    const startedAt = performance.now();
    await fillDatabase(directory, size, context);
    fillSeconds = (performance.now() - startedAt) / 1000;
    writeFileSync(filledFile, JSON.stringify(size));
  }

  const server = await startPostgres({ directory, settings: MEASURE_SETTINGS });
  context.atEnd(() => server.stop());
  const owner = await connect(server.url, context);
  const samples = await takeSamples(owner);
  const password = new URL(server.url).password;
  await owner.query(`DROP ROLE IF EXISTS ${AUDITOR}`);
  await owner.query(`CREATE ROLE ${AUDITOR} LOGIN PASSWORD '${password}' IN ROLE ${AUDITOR_ROLE}`);
  const auditorUrl = new URL(server.url);
  auditorUrl.username = AUDITOR;
  const auditor = await connect(auditorUrl.href, context);
  const { rows } = await owner.query<{ bytes: number }>('SELECT pg_database_size(current_database())::float8 AS bytes');

  const figures: QuestionFigures[] = [];
  for (const question of questions(samples)) {
    signal.throwIfAborted();
    progress(question.name);
    figures.push(await ask(auditor, question));
  }
  return reportAudit({ ...size, fillSeconds, bytes: rows[0]!.bytes, figures });
}

async function fillDatabase(
  directory: string,
  size: { connections: number; traffic: number },
  context: BenchContext,
): Promise<void> {
  const { progress, signal } = context;
  const server = await startPostgres({ directory, settings: FILL_SETTINGS });
  try {
    const database = createDatabase(createPool(server.url, 'bench:audit', () => undefined));
    try {
      await migrate(database);
      const session = async (): Promise<Session> => {
        const client = new pg.Client({ connectionString: server.url });
        client.on('error', () => undefined);
        await client.connect();
        // To break off takes the server's end: a statement of minutes hears nothing else.
        return {
          client,
          run: async (statement) => {
            signal.throwIfAborted();
            const { sql, parameters } = statement.compile(database);
            await client.query(sql, [...parameters]);
          },
        };
      };
      const sessions = [await session(), await session()] as const;
      try {
        await fill(size, sessions, progress);
      } finally {
        await Promise.all(sessions.map(({ client }) => client.end()));
      }
    } finally {
      await database.destroy();
    }
  } finally {
    await server.stop();
  }
}

async function connect(url: string, context: BenchContext): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  context.atEnd(() => client.end());
  return client;
}

/** Keys that have to be there to be asked about. */
async function takeSamples(client: pg.Client): Promise<Samples> {
  const { rows: holders } = await client.query<{ address: string; at: string }>(
    `SELECT host(a.address) AS address, to_char(lower(a.during) + interval '1 second', 'YYYY-MM-DD"T"HH24:MI:SSOF') AS at
     FROM generate_series(1, ${KEYS}) AS n
     JOIN address_assignments a ON a.id = n * ((SELECT max(id) FROM address_assignments) / ${KEYS + 1})`,
  );
  const { rows: claims } = await client.query<{ address: string }>(
    `SELECT host(address) AS address FROM address_conflicts ORDER BY position LIMIT ${KEYS}`,
  );
  const { rows: spools } = await client.query<{ node: string; epoch: string }>(
    `SELECT node, epoch FROM node_epochs WHERE current AND node <> 'control' ORDER BY node LIMIT ${KEYS}`,
  );
  return { holders, claimed: claims.map(({ address }) => address), spools };
}

async function ask(client: pg.Client, { name, sql, keys }: Question): Promise<QuestionFigures> {
  const first: number[] = [];
  const medians: number[] = [];
  const rows: number[] = [];
  let slowest: readonly string[] = [];
  for (const key of keys) {
    const times: number[] = [];
    for (let repeat = 0; repeat < REPEATS; repeat++) {
      const startedAt = performance.now();
      const result = await client.query(sql, [...key]);
      times.push(performance.now() - startedAt);
      if (repeat === 0) rows.push(result.rowCount ?? 0);
    }
    first.push(times[0]!);
    medians.push(median(times)!);
    if (medians.at(-1) === Math.max(...medians)) slowest = key;
  }
  const explained = Math.max(...medians) < LIMIT_MS ? null : await explain(client, sql, slowest);
  return { name, sql, keys: keys.length, rows, first, medians, slowest, explained };
}

async function explain(client: pg.Client, sql: string, key: readonly string[]): Promise<string> {
  const { rows } = await client.query<{ 'QUERY PLAN': string }>(`EXPLAIN (ANALYZE, BUFFERS) ${sql}`, [...key]);
  return rows.map((row) => row['QUERY PLAN']).join('\n');
}

function demandSpace(directory: string, size: { connections: number; traffic: number }): void {
  const needed = size.connections * BYTES_PER_CONNECTION + size.traffic * BYTES_PER_TRAFFIC_ROW + BYTES_BESIDES;
  const { bavail, bsize } = statfsSync(directory);
  if (bavail * bsize < needed) {
    const gigabytes = (bytes: number) => (bytes / 1e9).toFixed(0);
    throw new PrerequisiteError(
      `it needs ${gigabytes(needed)} GB below ${directory}, where ${gigabytes(bavail * bsize)} are free; --data DIR or TMPDIR choose another place`,
    );
  }
}
