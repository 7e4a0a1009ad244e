import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { freePort } from '../deploy/local/free-port.ts';
import { isOk } from '../deploy/local/http-client.ts';
import { discharge, entrust, type Leftover } from '../deploy/local/janitor.ts';
import { type NatsServer, startNatsServer } from '../deploy/local/nats-server.ts';
import { type PostgresServer, startPostgres } from '../deploy/local/postgres.ts';
import { createService, type Service } from '../deploy/local/service.ts';
import type { SimulatedLoad } from '../test/support/simulated-node/simulated-load.ts';
import { SimulatedNodesProcess } from '../test/support/simulated-node/simulated-nodes-process.ts';
import type { BenchContext } from './bench-context.ts';

const CONTROL_PLANE = fileURLToPath(new URL('../control-plane/main.ts', import.meta.url));
const MEMORY_DIRECTORY = '/dev/shm';
/** As deploy/Dockerfile and docker-compose.yml have it: without a limit to its heap V8 collects garbage when there is plenty of it. */
const HEAP = '--max-old-space-size=1024';
const MALLOC_ARENAS = '2';
/** 16,384 blocks of 254 addresses: four times as many as a thousand nodes take with a quarter of theirs free. */
const POOLS = '10.0.0.0/10,fd00:99::/64';
const BLOCK_PREFIX_V4 = '24';
const READY_TIMEOUT_MS = 60_000;

/** What simulated nodes and control planes work with; ends with the benchmark. */
export interface Servers {
  readonly nats: NatsServer;
  readonly postgres: PostgresServer;
  readonly sql: pg.Pool;
}

/** NATS and Postgres; `settings` are of postgresql.conf. */
export async function startServers(
  { directory, atEnd }: BenchContext,
  settings: Readonly<Record<string, string>> = {},
): Promise<Servers> {
  const nats = await startNatsServer({ directory: join(directory, 'nats') });
  atEnd(() => nats.stop());
  const postgres = await startPostgres({ directory: join(directory, 'postgres'), settings });
  atEnd(() => postgres.stop());
  const sql = new pg.Pool({ connectionString: postgres.url, max: 2 });
  sql.on('error', () => undefined);
  atEnd(() => sql.end());
  return { nats, postgres, sql };
}

/** One control plane, as leader; `env` has what is not as usual here. */
export async function startControlPlane(
  { directory, atEnd }: BenchContext,
  { nats, postgres }: Servers,
  env: NodeJS.ProcessEnv = {},
): Promise<{ leader: Service; url: string }> {
  const port = await freePort('127.0.0.1');
  const url = `http://127.0.0.1:${port}`;
  const leader = createService({
    name: 'control-plane',
    command: process.execPath,
    args: [HEAP, CONTROL_PLANE],
    env: {
      DATABASE_URL: postgres.url,
      NATS_URL: nats.url,
      HTTP_LISTEN: `127.0.0.1:${port}`,
      ADMIN_TOKEN: 'not-a-secret-of-anything',
      POOLS,
      BLOCK_PREFIX_V4,
      MALLOC_ARENA_MAX: MALLOC_ARENAS,
      ...env,
    },
    logFile: join(directory, 'control-plane.log'),
    ready: { what: 'readiness', timeoutMs: READY_TIMEOUT_MS, probe: () => isOk(`${url}/readyz`) },
  });
  await leader.start();
  atEnd(() => leader.stop());
  return { leader, url };
}

/** Simulated nodes in a process of their own, not started yet, each with one client; their state is in memory where that can be. */
export function createFleet(
  context: BenchContext,
  natsUrl: string,
  nodes: number,
  load: SimulatedLoad,
): SimulatedNodesProcess {
  const stateDirectory = mkdtempSync(
    join(existsSync(MEMORY_DIRECTORY) ? MEMORY_DIRECTORY : context.directory, 'masque-vpn-bench-'),
  );
  const leftover: Leftover = { kind: 'path', path: stateDirectory };
  entrust(leftover);
  context.atEnd(async () => {
    rmSync(stateDirectory, { recursive: true, force: true });
    discharge(leftover);
  });
  const directory = join(context.directory, 'nodes');
  mkdirSync(directory);
  return new SimulatedNodesProcess({
    name: 'nodes',
    directory,
    stateDirectory,
    load,
    nodes: Array.from({ length: nodes }, (_, node) => ({
      id: `node-${node}`,
      natsUrl,
      clients: [`client-${node}`],
    })),
  });
}

/** SQL: how many records a row of `events` is; a window is one for each of its connections. */
export const RECORDS = `CASE type WHEN 'traffic.sampled' THEN json_array_length(data->'samples'->'connectionId') ELSE 1 END`;

/** What the log has, or a part of it: events, their records, and renewals of blocks. */
export async function readCounts(
  sql: pg.Pool,
  { first, last }: { readonly first: number; readonly last: number } = { first: 0, last: Number.MAX_SAFE_INTEGER },
): Promise<{ events: number; records: number; renewals: number }> {
  const { rows } = await sql.query<{ events: number; records: number; renewals: number }>(
    `SELECT count(*)::int AS events, coalesce(sum(${RECORDS}), 0)::int AS records,
       count(*) FILTER (WHERE type = 'block.renewed')::int AS renewals
     FROM events WHERE position BETWEEN $1 AND $2`,
    [first, last],
  );
  const { events = 0, records = 0, renewals = 0 } = rows[0] ?? {};
  return { events, records, renewals };
}
