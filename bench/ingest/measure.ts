import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { childrenOf } from '../../deploy/local/process-identity.ts';
import { cpuSeconds, endedChildrenCpuSeconds, residentBytes } from '../../deploy/local/process-usage.ts';
import { waitFor } from '../../deploy/local/wait-for.ts';
import type { BenchContext } from '../bench-context.ts';
import {
  createFleet,
  RECORDS,
  readCounts,
  type Servers,
  startControlPlane,
  startServers,
} from '../simulated-cluster.ts';
import { median } from '../statistics.ts';
import { measureCeilings, type Span } from './ceilings.ts';
import { fillEvents } from './fill-events.ts';
import type { IngestOptions } from './options.ts';
import { type IngestReport, reportIngest } from './report.ts';

/** As an operator has them on a machine of 8 GB or more; what is committed is on disk, as always. */
const POSTGRES_SETTINGS = {
  shared_buffers: '1GB',
  max_wal_size: '8GB',
  checkpoint_timeout: '15min',
  wal_compression: 'on',
  // Says when a row was committed.
  track_commit_timestamp: 'on',
};
const CONNECTIONS_PER_WINDOW = 50;
const WINDOW_MS = 1_000;
const SHARE_OF_SAMPLES = 0.8;
/** Of a connection's life: established, closed, and two addresses that are assigned and released. */
const EVENTS_PER_LIFE = 6;
const OPENS_PER_SECOND = 1_500;
const SETUP_TIMEOUT_MS = 180_000;
const CATCH_UP_MS = 60_000;
const SAMPLE_MS = 250;

/** Runs the load, then the ceilings on what it left, then the start of a control plane on a long log. */
export async function measureIngest(options: IngestOptions, context: BenchContext): Promise<IngestReport> {
  const { rate, seconds, shards } = options;
  const { directory, progress, signal, atEnd } = context;
  progress('NATS, Postgres and the control plane');
  const servers = await startServers(context, POSTGRES_SETTINGS);
  const { nats, postgres, sql } = servers;
  const { leader } = await startControlPlane(context, servers);

  const connections = shards * CONNECTIONS_PER_WINDOW;
  const nodes = Math.max(1, Math.round((rate * SHARE_OF_SAMPLES * (WINDOW_MS / 1_000)) / connections));
  const connectionEvents = rate * (1 - SHARE_OF_SAMPLES);
  const lives = connectionEvents / EVENTS_PER_LIFE;
  const eventsPerSecond = connectionEvents + nodes * shards * (1_000 / WINDOW_MS);
  const fleet = createFleet(context, nats.url, nodes, {
    connections,
    shards,
    opensPerSecond: OPENS_PER_SECOND / nodes,
    churnPerSecond: lives / nodes,
    windowMs: WINDOW_MS,
  });
  progress(`${nodes} nodes with ${connections} connections each, in ${shards} shards`);
  await fleet.launch();
  atEnd(() => fleet.service.kill());
  const hasAll = () => (fleet.status()?.connections ?? 0) >= 0.99 * nodes * connections;
  await waitFor(
    () => {
      signal.throwIfAborted();
      return hasAll();
    },
    { timeoutMs: SETUP_TIMEOUT_MS, what: 'all connections', intervalMs: SAMPLE_MS },
  );
  // What the rush has left is not measured. Who never catches up has the lag of that in the result.
  await waitFor(() => (fleet.status()?.depth ?? 0) < eventsPerSecond, {
    timeoutMs: CATCH_UP_MS,
    what: 'spools of less than a second',
    intervalMs: SAMPLE_MS,
  }).catch(() => undefined);
  signal.throwIfAborted();

  progress(`${rate} records a second for ${seconds} s, ${fleet.status()?.depth} events are in the spools`);
  const pids = { nodes: fleet.service.process().pid, nats: nats.pid, controlPlane: leader.process().pid };
  const usage = () => ({
    nodes: cpuSeconds(pids.nodes),
    nats: cpuSeconds(pids.nats),
    controlPlane: cpuSeconds(pids.controlPlane),
    postgres: familyCpuSeconds(postgres.pid),
  });
  const before = usage();
  const beganAt = performance.now();
  const first = (await positionOf(sql)) + 1;
  let leaderBytes = 0;
  while (performance.now() < beganAt + seconds * 1_000) {
    await delay(SAMPLE_MS, undefined, { signal });
    leaderBytes = Math.max(leaderBytes, residentBytes(pids.controlPlane));
  }
  const span: Span = { first, last: await positionOf(sql) };
  const took = (performance.now() - beganAt) / 1_000;
  const after = usage();
  const share = (name: keyof typeof before) => (100 * (after[name] - before[name])) / took;
  const waiting = fleet.status()?.depth ?? 0;
  await fleet.service.kill();
  await leader.stop();
  progress('reading what was committed when');
  const counts = await readCounts(sql, span);
  const lag = await readLag(sql, span);

  progress('the ceilings: COPY and unnest of the same rows');
  const files = join(directory, 'ceilings');
  mkdirSync(files);
  // Postgres runs as another user.
  chmodSync(directory, 0o755);
  chmodSync(files, 0o777);
  const client = new pg.Client({ connectionString: postgres.url });
  // The query that it breaks off says so.
  client.on('error', () => undefined);
  await client.connect();
  const { copySeconds, unnestSeconds } = await measureCeilings(client, files, span);
  await client.end();
  signal.throwIfAborted();
  const start = options.log > 0 ? await measureStart(options.log * 1_000, context, servers) : {};
  return reportIngest({
    rate,
    seconds: took,
    events: counts.events,
    records: counts.records,
    ...lag,
    waiting,
    cpu: {
      nodes: share('nodes'),
      nats: share('nats'),
      controlPlane: share('controlPlane'),
      postgres: share('postgres'),
    },
    leaderBytes,
    copyCeiling: counts.records / (median(copySeconds) ?? Number.NaN),
    unnestCeiling: counts.records / (median(unnestSeconds) ?? Number.NaN),
    ...start,
  });
}

/** A control plane on a log with `events` more, until it is ready: its API answers, and it leads. */
async function measureStart(
  events: number,
  context: BenchContext,
  servers: Servers,
): Promise<{ startEvents: number; startSeconds: number }> {
  const { progress } = context;
  const client = new pg.Client({ connectionString: servers.postgres.url });
  client.on('error', () => undefined);
  await client.connect();
  await fillEvents(client, events, progress);
  const { rows } = await client.query<{ events: number }>('SELECT count(*)::int AS events FROM events');
  await client.end();
  progress('starting a control plane on it');
  const begin = performance.now();
  await startControlPlane(context, servers);
  const startSeconds = (performance.now() - begin) / 1_000;
  return { startEvents: rows[0]?.events ?? 0, startSeconds };
}

async function positionOf(sql: pg.Pool): Promise<number> {
  const { rows } = await sql.query<{ position: string }>('SELECT position FROM event_checkpoint');
  return Number(rows[0]?.position);
}

async function readLag(sql: pg.Pool, { first, last }: Span): Promise<{ p50LagMs: number; p99LagMs: number }> {
  const { rows } = await sql.query<{ p50: number; p99: number }>(
    `WITH lags AS (
       SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - at)::float8 * 1000 AS ms,
         ${RECORDS} AS records
       FROM events WHERE position BETWEEN $1 AND $2 AND node <> 'control'
     ), ranked AS (
       SELECT ms, sum(records) OVER (ORDER BY ms) AS upto, sum(records) OVER () AS total FROM lags
     )
     SELECT min(ms) FILTER (WHERE upto >= 0.5 * total) AS p50, min(ms) FILTER (WHERE upto >= 0.99 * total) AS p99 FROM ranked`,
    [first, last],
  );
  return { p50LagMs: rows[0]?.p50 ?? Number.NaN, p99LagMs: rows[0]?.p99 ?? Number.NaN };
}

/** Of a process and its children, which Postgres has one of for each connection, those that have ended too. */
function familyCpuSeconds(pid: number): number {
  return [pid, ...childrenOf(pid)].reduce((sum, one) => sum + cpuSeconds(one), endedChildrenCpuSeconds(pid));
}
