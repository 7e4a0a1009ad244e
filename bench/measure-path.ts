import { cpuSeconds } from '../deploy/local/process-usage.ts';
import type { BenchContext } from './bench-context.ts';
import { findHighestRate, UDP_PROBES } from './highest-rate.ts';
import type { IperfResult } from './iperf-result.ts';
import type { IperfRun, IperfServers } from './iperf-servers.ts';
import { measureRoundTrips, SETTLE_SECONDS, WARM_UP_SECONDS, warmUp } from './measure-round-trips.ts';
import type { TunnelPath } from './paths/tunnel-path.ts';
import { percentile } from './statistics.ts';
import type { Figures } from './tunnel-figures.ts';

const STREAMS = 8;
/** A search is several runs, each of them no longer than this. */
const MAX_UDP_SECONDS = 2;
const GIGABYTE = 1e9;

export interface Bench {
  readonly context: BenchContext;
  readonly iperf: IperfServers;
  readonly seconds: number;
}

/** A part of a round; each is done for all paths before the next, so that what slows the machine down slows all of them. */
export interface Step {
  readonly name: string;
  readonly measure: (bench: Bench, path: TunnelPath) => Promise<Figures>;
}

export const STEPS: readonly Step[] = [
  { name: 'idle', measure: idle },
  { name: 'one TCP stream', measure: oneStream },
  { name: 'eight TCP streams', measure: eightStreams },
  { name: 'UDP', measure: udp },
];

/** Seconds that all steps take for one path, what happens between the runs aside. */
export function stepSeconds(seconds: number): number {
  return (
    2 * (seconds + SETTLE_SECONDS) + WARM_UP_SECONDS + 4 * seconds + 2 * UDP_PROBES * Math.min(seconds, MAX_UDP_SECONDS)
  );
}

async function idle({ context, seconds }: Bench, { address, clientNamespace }: TunnelPath): Promise<Figures> {
  const measure = () => measureRoundTrips(context, clientNamespace, address, seconds + SETTLE_SECONDS);
  const cold = await measure();
  await warmUp(context, clientNamespace, address);
  const warm = await measure();
  return defined({
    coldP50Ms: percentile(cold, 50),
    idleP50Ms: percentile(warm, 50),
    idleP99Ms: percentile(warm, 99),
  });
}

async function oneStream(bench: Bench, path: TunnelPath): Promise<Figures> {
  const up = await loaded(bench, path, 'up');
  const down = await loaded(bench, path, 'down');
  const times = [...up.times, ...down.times];
  return defined({
    tcp1Up: up.mbps,
    tcp1Down: down.mbps,
    loadP50Ms: percentile(times, 50),
    loadP99Ms: percentile(times, 99),
    cpuUpClient: up.cpu?.client,
    cpuUpServer: up.cpu?.server,
    cpuDownClient: down.cpu?.client,
    cpuDownServer: down.cpu?.server,
  });
}

/** One TCP stream, and pings beside it. */
async function loaded(bench: Bench, path: TunnelPath, direction: IperfRun['direction']) {
  const { context, iperf, seconds } = bench;
  const { address, clientNamespace } = path;
  const before = path.pids && { client: cpuSeconds(path.pids.client), server: cpuSeconds(path.pids.server) };
  const pinging = measureRoundTrips(context, clientNamespace, address, seconds);
  // The one that fails first says why.
  const [result, times] = await Promise.all([iperf.run({ clientNamespace, address, direction, seconds }), pinging]);
  const perGigabyte = (used: number) => used / (result.bytes / GIGABYTE);
  const cpu = path.pids &&
    before && {
      client: perGigabyte(cpuSeconds(path.pids.client) - before.client),
      server: perGigabyte(cpuSeconds(path.pids.server) - before.server),
    };
  return { mbps: result.mbps, times, cpu };
}

async function eightStreams({ iperf, seconds }: Bench, { address, clientNamespace }: TunnelPath): Promise<Figures> {
  const up = await iperf.run({ clientNamespace, address, direction: 'up', seconds, streams: STREAMS });
  const down = await iperf.run({ clientNamespace, address, direction: 'down', seconds, streams: STREAMS });
  return { tcp8Up: up.mbps, tcp8Down: down.mbps };
}

async function udp({ iperf, seconds }: Bench, { address, clientNamespace }: TunnelPath): Promise<Figures> {
  const probe =
    (direction: IperfRun['direction']) =>
    (udpMbps: number): Promise<IperfResult> =>
      iperf.run({ clientNamespace, address, direction, seconds: Math.min(seconds, MAX_UDP_SECONDS), udpMbps });
  return { udpUp: await findHighestRate(probe('up')), udpDown: await findHighestRate(probe('down')) };
}

/** Figures without those that are not there. */
function defined(figures: { readonly [K in keyof Figures]: Figures[K] | undefined }): Figures {
  return Object.fromEntries(Object.entries(figures).filter(([, value]) => value !== undefined));
}
