import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Cluster, startCluster } from '../deploy/local/cluster.ts';
import { PrerequisiteError } from '../deploy/local/prerequisites.ts';
import { cpuSeconds, residentBytes } from '../deploy/local/process-usage.ts';
import type { PeerTarget } from '../test/support/test-peer.ts';
import { TunnelLoadProcess } from '../test/support/tunnel-load-process.ts';
import type { BenchContext } from './bench-context.ts';
import { type ConnectionsReport, reportConnections } from './connections-report.ts';
import type { ConnectionsOptions } from './options.ts';

const NODE_ID = 'node-a';
/** Clients are counted apart from the node, and a few processes set up more at once than one. */
const LOAD_PROCESSES = 4;
const ENROL_AT_ONCE = 20;
/** An open tunnel only answers probes: often enough for that, and seldom enough to leave the cores to the handshakes. */
const IDLE_TURN_MS = 100;
const EMPTY_SECONDS = 5;
/** What the handshakes left behind (events, garbage) is not part of being idle. */
const SETTLE_MS = 5_000;
const SETUP_TIMEOUT_MS = 120_000;
const PROJECTION_TIMEOUT_MS = 60_000;
/** A client's QUIC core, and what a process of them has besides. */
const CLIENT_BYTES = 18e6;
const PROCESS_BYTES = 120e6;
const MAX_BYTES = 12e9;

/** Opens all tunnels as fast as they come, watches them idle, and closes them. */
export async function measureConnections(
  { tunnels, seconds }: ConnectionsOptions,
  context: BenchContext,
): Promise<ConnectionsReport> {
  const { signal, progress, atEnd } = context;
  demandMemory(tunnels);
  const cluster = await startCluster({
    directory: join(context.directory, 'cluster'),
    nodes: [NODE_ID],
    clients: [],
    signal,
    progress,
  });
  atEnd(() => cluster.stop());
  const pid = cluster.node(NODE_ID).service.process().pid;

  progress(`${tunnels} clients are enrolled`);
  const tokens = await enrol(cluster, tunnels, signal);
  const loads = Array.from({ length: Math.min(LOAD_PROCESSES, tunnels) }, () => new TunnelLoadProcess());
  atEnd(async () => {
    for (const load of loads) load.kill();
  });
  const target = targetOf(cluster);
  const shares = loads.map((_, i) => tokens.filter((_, at) => at % loads.length === i));
  progress('the clients get their QUIC cores');
  const preparing = loads.map((load, i) =>
    load.ask({ type: 'prepare', target, count: shares[i]?.length ?? 0 }, 'prepared'),
  );
  await within(signal, SETUP_TIMEOUT_MS, Promise.all(preparing));
  const clientCpu = () => loads.reduce((sum, load) => sum + cpuSeconds(load.pid), 0);
  await delay(SETTLE_MS, undefined, { signal });

  progress(`the empty node is watched for ${EMPTY_SECONDS} s`);
  const empty = await watch(pid, EMPTY_SECONDS, signal);
  const before = { bytes: residentBytes(pid), node: cpuSeconds(pid), clients: clientCpu(), ms: performance.now() };

  progress(`${tunnels} tunnels from ${loads.length} processes`);
  const opening = loads.map((load, i) =>
    load.ask({ type: 'open', target, tokens: shares[i] ?? [], idleTurnMs: IDLE_TURN_MS }, 'opened'),
  );
  const opened = await within(signal, SETUP_TIMEOUT_MS, Promise.all(opening));
  const setupSeconds = (performance.now() - before.ms) / 1_000;
  const setupCpu = { node: cpuSeconds(pid) - before.node, clients: clientCpu() - before.clients };
  progress(`all open after ${setupSeconds.toFixed(1)} s`);

  await cluster.untilProjected(PROJECTION_TIMEOUT_MS);
  await delay(SETTLE_MS, undefined, { signal });
  progress(`they are watched for ${seconds} s`);
  const idle = await watch(pid, seconds, signal);
  const nodeBytes = { before: before.bytes, after: residentBytes(pid) };
  const clientBytes = loads.reduce((sum, load) => sum + residentBytes(load.pid), 0);
  const counting = Promise.all(loads.map((load) => load.ask({ type: 'count' }, 'counted')));
  const counted = await within(signal, SETUP_TIMEOUT_MS, counting);
  await within(signal, SETUP_TIMEOUT_MS, Promise.all(loads.map((load) => load.ask({ type: 'close' }, 'closed'))));

  return reportConnections({
    tunnels,
    setupSeconds,
    setupCpu,
    refusals: opened.reduce((sum, { refusals }) => sum + refusals, 0),
    nodeBytes,
    clientBytes,
    idleSeconds: idle.seconds,
    idleNodeCpu: idle.cpu,
    emptySeconds: empty.seconds,
    emptyNodeCpu: empty.cpu,
    stillOpen: counted.reduce((sum, { open }) => sum + open, 0),
  });
}

/** Rather none than a machine that swaps, or a launcher that the kernel kills. */
function demandMemory(tunnels: number): void {
  const needed = tunnels * CLIENT_BYTES + LOAD_PROCESSES * PROCESS_BYTES;
  const available = Number(/^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]) * 1024;
  const allowed = Math.min(MAX_BYTES, available);
  if (needed <= allowed) return;
  const gigabytes = (bytes: number) => (bytes / 1e9).toFixed(1);
  const what = `${tunnels} clients take ${gigabytes(needed)} GB of memory, and ${gigabytes(allowed)} GB are there`;
  throw new PrerequisiteError(`${what}: ask for fewer with --tunnels`);
}

async function enrol(cluster: Cluster, count: number, signal: AbortSignal): Promise<string[]> {
  const ids = Array.from({ length: count }, (_, i) => `load-${i}`);
  const tokens: string[] = [];
  for (let at = 0; at < count; at += ENROL_AT_ONCE) {
    signal.throwIfAborted();
    const some = ids.slice(at, at + ENROL_AT_ONCE);
    const enrolled = await Promise.all(some.map((id) => cluster.api<{ token: string }>('POST', '/v1/clients', { id })));
    tokens.push(...enrolled.map(({ token }) => token));
  }
  return tokens;
}

function targetOf(cluster: Cluster): PeerTarget {
  const node = cluster.node(NODE_ID);
  return {
    server: new URL(node.url).host,
    serverName: node.serverName,
    ca: readFileSync(join(cluster.directory, 'pki', 'ca.pem'), 'utf8'),
    from: cluster.plan.rootAddress,
  };
}

async function watch(pid: number, seconds: number, signal: AbortSignal): Promise<{ seconds: number; cpu: number }> {
  const [startMs, before] = [performance.now(), cpuSeconds(pid)];
  await delay(seconds * 1_000, undefined, { signal });
  return { seconds: (performance.now() - startMs) / 1_000, cpu: cpuSeconds(pid) - before };
}

async function within<T>(signal: AbortSignal, timeoutMs: number, work: Promise<T>): Promise<T> {
  const stop = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  stop.throwIfAborted();
  return Promise.race([
    work,
    new Promise<never>((_, reject) => {
      stop.addEventListener('abort', () => reject(stop.reason), { once: true });
    }),
  ]);
}
