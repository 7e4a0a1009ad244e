import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { scrape } from '../../deploy/local/http-client.ts';
import { cpuSeconds, residentBytes } from '../../deploy/local/process-usage.ts';
import type { Service } from '../../deploy/local/service.ts';
import { waitFor } from '../../deploy/local/wait-for.ts';
import type { SimulatedNodesProcess } from '../../test/support/simulated-node/simulated-nodes-process.ts';
import type { BenchContext } from '../bench-context.ts';
import { createFleet, readCounts, startControlPlane, startServers } from '../simulated-cluster.ts';
import type { NodesOptions } from './options.ts';
import { type NodesReport, reportNodes } from './report.ts';

/** Each node renews every 20 s, fifteen times as often as with the default: it has to hold within a minute's run. */
const LEASE_SECONDS = '240';
const WINDOW_MS = 5_000;
/** Of all nodes together. */
const OPENS_PER_SECOND = 1_500;
const CHURN_PER_SECOND = 50;
const SETUP_TIMEOUT_MS = 300_000;
/** Ours: how long the events of the rush may take. */
const CATCH_UP_MS = 60_000;
const SAMPLE_MS = 250;
const SCRAPE_MS = 15_000;

/** Starts them all, waits until all connections are open, and watches them. */
export async function measureNodes(options: NodesOptions, context: BenchContext): Promise<NodesReport> {
  const { progress, signal, atEnd } = context;
  progress('NATS, Postgres and the control plane');
  const servers = await startServers(context);
  const { leader, url } = await startControlPlane(context, servers, { LEASE_SECONDS });

  const fleet = createFleet(context, servers.nats.url, options.nodes, {
    connections: options.connections,
    opensPerSecond: OPENS_PER_SECOND / options.nodes,
    churnPerSecond: CHURN_PER_SECOND / options.nodes,
    windowMs: WINDOW_MS,
  });
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
  const watched = await watch(options.seconds, signal, { sql: servers.sql, fleet, leader, url });
  return reportNodes({
    nodes: options.nodes,
    connections: options.connections,
    windowMs: WINDOW_MS,
    setupSeconds,
    seconds: options.seconds,
    ...watched,
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
    // It is awaited at the end; until then a failure waits, too.
    scraping.catch(() => undefined);
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
