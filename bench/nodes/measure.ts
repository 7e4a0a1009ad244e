import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { freePort } from '../../deploy/local/free-port.ts';
import { isOk, scrape } from '../../deploy/local/http-client.ts';
import { discharge, entrust, type Leftover } from '../../deploy/local/janitor.ts';
import { startNatsServer } from '../../deploy/local/nats-server.ts';
import { startPostgres } from '../../deploy/local/postgres.ts';
import { cpuSeconds, residentBytes } from '../../deploy/local/process-usage.ts';
import { createService, type Service } from '../../deploy/local/service.ts';
import { waitFor } from '../../deploy/local/wait-for.ts';
import { SimulatedNodesProcess } from '../../test/support/simulated-node/simulated-nodes-process.ts';
import type { BenchContext } from '../bench-context.ts';
import type { NodesOptions } from './options.ts';
import { type NodesReport, reportNodes } from './report.ts';

const CONTROL_PLANE = fileURLToPath(new URL('../../control-plane/main.ts', import.meta.url));
const MEMORY_DIRECTORY = '/dev/shm';
/** As deploy/Dockerfile and docker-compose.yml have it: without a limit to its heap V8 collects garbage when there is plenty of it. */
const MAX_HEAP = '--max-old-space-size=1024';
const MALLOC_ARENAS = '2';
/** 16,384 blocks of 254 addresses: four times as many as a thousand nodes take with a quarter of theirs free. */
const POOLS = '10.0.0.0/10,fd00:99::/64';
const BLOCK_PREFIX_V4 = '24';
/** Each node renews every 20 s, fifteen times as often as with the default: it has to hold within a minute's run. */
const LEASE_SECONDS = 240;
const WINDOW_MS = 5_000;
/** Of all nodes together. */
const OPENS_PER_SECOND = 1_500;
const CHURN_PER_SECOND = 50;
const READY_TIMEOUT_MS = 60_000;
const SETUP_TIMEOUT_MS = 300_000;
/** Ours: how long the events of the rush may take. */
const CATCH_UP_MS = 60_000;
const SAMPLE_MS = 250;
const SCRAPE_MS = 15_000;

/** Starts them all, waits until all connections are open, and watches them. */
export async function measureNodes(options: NodesOptions, context: BenchContext): Promise<NodesReport> {
  const { directory, progress, signal, atEnd } = context;
  progress('NATS, Postgres and the control plane');
  const nats = await startNatsServer({ directory: join(directory, 'nats') });
  atEnd(() => nats.stop());
  const postgres = await startPostgres({ directory: join(directory, 'postgres') });
  atEnd(() => postgres.stop());
  const sql = new pg.Pool({ connectionString: postgres.url, max: 2 });
  sql.on('error', () => undefined);
  atEnd(() => sql.end());
  const { leader, url } = await startControlPlane(directory, postgres.url, nats.url);
  atEnd(() => leader.stop());

  const fleet = createFleet(options, context, nats.url);
  const startedAt = performance.now();
  progress(`${options.nodes} nodes`);
  await fleet.launch();
  atEnd(() => fleet.service.kill());
  const wanted = options.nodes * options.connections;
  await waitFor(
    () => {
      signal.throwIfAborted();
      return (fleet.status()?.connections ?? 0) >= wanted;
    },
    { timeoutMs: SETUP_TIMEOUT_MS, what: `${wanted} open connections`, intervalMs: SAMPLE_MS },
  );
  const setupSeconds = (performance.now() - startedAt) / 1_000;
  progress(`${wanted} connections are open`);
  // What the rush has left is not part of what they take from here on. One that never catches up misses its bars.
  const isCaughtUp = () => {
    signal.throwIfAborted();
    return (fleet.status()?.slowestWatermarkMs ?? 0) < WINDOW_MS && (fleet.status()?.depth ?? 0) < 2 * options.nodes;
  };
  await waitFor(isCaughtUp, { timeoutMs: CATCH_UP_MS, what: 'short spools', intervalMs: SAMPLE_MS }).catch(
    () => undefined,
  );
  signal.throwIfAborted();
  progress(`watching them for ${options.seconds} s, ${fleet.status()?.depth} events are in their spools`);
  const watched = await watch(options.seconds, signal, { sql, fleet, leader, url });
  return reportNodes({
    nodes: options.nodes,
    connections: options.connections,
    windowMs: WINDOW_MS,
    setupSeconds,
    seconds: options.seconds,
    ...watched,
  });
}

async function startControlPlane(
  directory: string,
  databaseUrl: string,
  natsUrl: string,
): Promise<{ leader: Service; url: string }> {
  const port = await freePort('127.0.0.1');
  const url = `http://127.0.0.1:${port}`;
  const leader = createService({
    name: 'control-plane',
    command: process.execPath,
    args: [MAX_HEAP, CONTROL_PLANE],
    env: {
      DATABASE_URL: databaseUrl,
      NATS_URL: natsUrl,
      HTTP_LISTEN: `127.0.0.1:${port}`,
      ADMIN_TOKEN: 'not-a-secret-of-anything',
      POOLS,
      BLOCK_PREFIX_V4,
      LEASE_SECONDS: String(LEASE_SECONDS),
      MALLOC_ARENA_MAX: MALLOC_ARENAS,
    },
    logFile: join(directory, 'control-plane.log'),
    ready: { what: 'readiness', timeoutMs: READY_TIMEOUT_MS, probe: () => isOk(`${url}/readyz`) },
  });
  await leader.start();
  return { leader, url };
}

function createFleet(options: NodesOptions, context: BenchContext, natsUrl: string): SimulatedNodesProcess {
  const { nodes, connections } = options;
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
    load: {
      connections,
      opensPerSecond: OPENS_PER_SECOND / nodes,
      churnPerSecond: CHURN_PER_SECOND / nodes,
      windowMs: WINDOW_MS,
    },
    nodes: Array.from({ length: nodes }, (_, node) => ({
      id: `node-${node}`,
      natsUrl,
      clients: [`client-${node}`],
    })),
  });
}

interface Watched {
  readonly sql: pg.Pool;
  readonly fleet: SimulatedNodesProcess;
  readonly leader: Service;
  readonly url: string;
}

async function watch(seconds: number, signal: AbortSignal, { sql, fleet, leader, url }: Watched) {
  const leaderPid = leader.process().pid;
  const fleetPid = fleet.service.process().pid;
  const usage = () => ({ leader: cpuSeconds(leaderPid), fleet: cpuSeconds(fleetPid), counts: readCounts(sql) });
  const before = usage();
  const countsBefore = await before.counts;
  let leaderBytes = 0;
  let slowestWatermarkMs = 0;
  let deepestSpools = 0;
  let slowestScrapeMs = 0;
  let scraping = Promise.resolve();
  let scrapeAt = performance.now();
  const end = performance.now() + seconds * 1_000;
  while (performance.now() < end) {
    await delay(SAMPLE_MS, undefined, { signal });
    const status = fleet.status();
    leaderBytes = Math.max(leaderBytes, residentBytes(leaderPid));
    slowestWatermarkMs = Math.max(slowestWatermarkMs, status?.slowestWatermarkMs ?? 0);
    deepestSpools = Math.max(deepestSpools, status?.depth ?? 0);
    if (performance.now() < scrapeAt) continue;
    scrapeAt += SCRAPE_MS;
    scraping = scraping.then(async () => {
      const askedAt = performance.now();
      await scrape(`${url}/metrics`);
      slowestScrapeMs = Math.max(slowestScrapeMs, performance.now() - askedAt);
    });
  }
  await scraping;
  const after = usage();
  const counts = await after.counts;
  const { rows } = await sql.query<{ up: number; lost: number; blocks: number; presence: number; unapplied: number }>(
    `SELECT (SELECT count(*)::int FROM nodes WHERE state = 'up') AS up,
       (SELECT count(*)::int FROM events WHERE type = 'node.lost') AS lost,
       (SELECT count(*)::int FROM events WHERE type = 'block.reclaimed')
         + (SELECT count(*)::int FROM block_states WHERE node IS NOT NULL AND lease_end < clock_timestamp()) AS blocks,
       (SELECT max(extract(epoch FROM clock_timestamp() - last_seen_at))::float8 FROM node_presence) AS presence,
       (SELECT count(*)::int FROM dead_letter) + (SELECT count(*)::int FROM event_gaps)
         + (SELECT count(*)::int FROM parked_events) + (SELECT count(*)::int FROM address_conflicts) AS unapplied`,
  );
  const [state] = rows;
  if (state === undefined) throw new Error('Postgres said nothing about the nodes');
  return {
    events: counts.events - countsBefore.events,
    records: counts.records - countsBefore.records,
    renewals: counts.renewals - countsBefore.renewals,
    slowestWatermarkMs,
    deepestSpools,
    up: state.up,
    lost: state.lost,
    lostBlocks: state.blocks,
    oldestPresenceSeconds: state.presence,
    unapplied: state.unapplied,
    leaderBytes,
    leaderCpuSeconds: after.leader - before.leader,
    nodesCpuSeconds: after.fleet - before.fleet,
    slowestScrapeMs,
  };
}

async function readCounts(sql: pg.Pool): Promise<{ events: number; records: number; renewals: number }> {
  const { rows } = await sql.query<{ events: number; windows: number; samples: number; renewals: number }>(
    `SELECT count(*)::int AS events, count(*) FILTER (WHERE type = 'traffic.sampled')::int AS windows,
       coalesce(sum(jsonb_array_length(data->'connections')) FILTER (WHERE type = 'traffic.sampled'), 0)::int AS samples,
       count(*) FILTER (WHERE type = 'block.renewed')::int AS renewals
     FROM events`,
  );
  const { events = 0, windows = 0, samples = 0, renewals = 0 } = rows[0] ?? {};
  return { events, records: events - windows + samples, renewals };
}
