import { join } from 'node:path';
import { startCluster } from '../deploy/local/cluster.ts';
import type { ClusterClient } from '../deploy/local/cluster-parts.ts';
import { hasIpv6 } from '../deploy/local/netns-topology.ts';
import { CLUSTER_PROGRAMS, type Requirement } from '../deploy/local/prerequisites.ts';
import type { BenchContext } from './bench-context.ts';
import { IperfServers } from './iperf-servers.ts';
import { type Bench, STEPS, stepSeconds } from './measure-path.ts';
import { parseTunnelOptions, TUNNEL_HELP, type TunnelOptions } from './options.ts';
import type { PathName } from './path-names.ts';
import { openOpenvpn } from './paths/openvpn.ts';
import type { TunnelPath } from './paths/tunnel-path.ts';
import { openWireguardGo } from './paths/wireguard-go.ts';
import { runBenchmark } from './run-benchmark.ts';
import type { Figures, FiguresByPath } from './tunnel-figures.ts';
import { renderTunnel, reportTunnel, type TunnelReport } from './tunnel-report.ts';

await runBenchmark({
  name: 'bench:tunnel',
  help: TUNNEL_HELP,
  parse: parseTunnelOptions,
  programs: requirements,
  measure,
  render: renderTunnel,
});

function requirements({ only }: TunnelOptions): readonly Requirement[] {
  return [
    ...CLUSTER_PROGRAMS,
    { program: 'iperf3', debianPackage: 'iperf3' },
    ...(only.includes('openvpn') ? [{ program: 'openvpn', debianPackage: 'openvpn' }] : []),
    ...(only.includes('wireguard-go') ? [{ program: 'wireguard-go', debianPackage: 'wireguard-go' }] : []),
  ];
}

async function measure({ seconds, rounds, only }: TunnelOptions, context: BenchContext): Promise<TunnelReport> {
  const { progress } = context;
  const paths = await openPaths(context, only);
  const iperf = new IperfServers(context, paths.serverNamespace);
  const bench: Bench = { context, iperf, seconds };
  const minutes = (rounds * paths.open.length * stepSeconds(seconds)) / 60;
  progress(
    `${paths.open.map(({ name }) => name).join(', ')}: rounds: ${rounds}; ${minutes.toFixed(1)} minutes at least`,
  );
  const measured: FiguresByPath[] = [];
  for (let round = 1; round <= rounds; round++) {
    const figures: Partial<Record<PathName, Figures>> = {};
    for (const step of STEPS) {
      for (const path of paths.open) {
        const found = await step.measure(bench, path);
        figures[path.name] = { ...figures[path.name], ...found };
        progress(`round ${round}, ${step.name}, ${path.name}: ${describe(found)}`);
      }
    }
    measured.push(figures);
  }
  return reportTunnel(seconds, measured);
}

interface OpenPaths {
  readonly serverNamespace: string;
  readonly open: readonly TunnelPath[];
}

/** All paths are open from the start to the end; an idle one costs the others next to nothing. */
async function openPaths(context: BenchContext, only: readonly PathName[]): Promise<OpenPaths> {
  const { directory, signal, progress, atEnd } = context;
  const [nodeId, clientId, http2ClientId] = ['node-a', 'client-1', 'client-2'] as const;
  const cluster = await startCluster({
    directory: join(directory, 'cluster'),
    nodes: [nodeId],
    clients: [clientId, ...(only.includes('h2') ? [http2ClientId] : [])],
    transports: { [http2ClientId]: 'http2' },
    signal,
    progress,
  });
  atEnd(() => cluster.stop());
  const node = cluster.node(nodeId);
  const client = cluster.client(clientId);
  const ends = { node: node.place, client: client.place };
  const ours = (one: ClusterClient) => ({
    clientNamespace: one.place.namespace,
    pids: { client: one.service.process().pid, server: node.service.process().pid },
  });
  const { gateway, gateway6 } = node.place.behind;
  const open: TunnelPath[] = [];
  for (const name of only) {
    progress(`path ${name}`);
    if (name === 'raw')
      open.push({ name, clientNamespace: client.place.namespace, address: node.place.address, pids: undefined });
    else if (name === 'openvpn') open.push(await openOpenvpn(context, ends));
    else if (name === 'wireguard-go') open.push(await openWireguardGo(context, ends));
    else if (name === 'h3') open.push({ name, address: gateway, ...ours(client) });
    else if (name === 'h3-v6') {
      if (hasIpv6()) open.push({ name, address: gateway6, ...ours(client) });
      else progress('this kernel has no IPv6, so h3-v6 is not measured');
    } else if (name === 'h2') open.push({ name, address: gateway, ...ours(cluster.client(http2ClientId)) });
    else name satisfies never;
  }
  return { serverNamespace: node.place.namespace, open };
}

function describe(figures: Figures): string {
  return Object.entries(figures)
    .map(([name, value]) => `${name} ${value.toFixed(value < 10 ? 2 : 0)}`)
    .join(', ');
}
