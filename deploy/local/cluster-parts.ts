import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ClientStatus } from '../../data-plane/client/status-file.ts';
import type { TransportChoice } from '../../data-plane/client/transport-race.ts';
import { type CertificateAuthority, issueServerCertificate } from './certificate.ts';
import type { ManagedProcess } from './child-process.ts';
import { readClientStatus } from './client-status.ts';
import { isOk } from './http-client.ts';
import { hasIpv6, inNamespace } from './netns-topology.ts';
import { createService, type Service } from './service.ts';
import type { NodePlace, SegmentPlace, TopologyPlan } from './topology-plan.ts';
import { readTrafficReport, type TrafficReport } from './traffic-report.ts';

const READY_TIMEOUT_MS = 60_000;
const TUNNEL_PORT = 4433;
const NODE_HTTP_PORT = 9091;
const DOWNLOAD_PORT = 8080;
/** Each node and client has a namespace to itself, so one name does for all. */
const TUN_NAME = 'masque0';
/** Where tunnels get their addresses from. */
const POOLS = ['10.99.0.0/16', 'fd00:99::/64'];
/** A driver ends behind the round that it is in; its downloads give up after 30 s each. */
const TRAFFIC_STOP_DEADLINE_MS = 90_000;

export interface ClusterNode {
  readonly id: string;
  readonly place: NodePlace;
  /** Where clients connect: `https://<address>:<port>`. */
  readonly url: string;
  /** The DNS name in its certificate, which no resolver knows: clients that verify it connect to `url`'s host by hand. */
  readonly serverName: string;
  /** `/healthz`, `/readyz` and `/metrics` are here. */
  readonly httpUrl: string;
  readonly metricsUrl: string;
  readonly service: Service;
  /** The HTTP server behind the node. */
  readonly server: Service;
}

export interface ClusterClient {
  readonly id: string;
  readonly place: SegmentPlace;
  readonly node: ClusterNode;
  readonly tun: string;
  readonly token: string;
  readonly service: Service;
  /** What the client says of itself; undefined before its first start. */
  status(): ClientStatus | undefined;
  /** Pings and downloads through the tunnel until `stopTraffic`. */
  startTraffic(load: TrafficLoad): Promise<void>;
  /** Lets the driver finish its round, for so long. */
  stopTraffic(deadlineMs?: number): Promise<TrafficReport | undefined>;
  traffic(): TrafficReport | undefined;
}

export interface TrafficLoad {
  readonly bytesPerDownload: number;
  /** Between two rounds of pings and downloads. */
  readonly pauseMs: number;
}

const script = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const node = process.execPath;

export interface CommonOptions {
  readonly directory: string;
  readonly plan: TopologyPlan;
  readonly onStart: (process: ManagedProcess) => void;
}

/** Of several, each has a name of its own. */
export function createControlPlane(
  options: CommonOptions & {
    readonly name?: string;
    readonly port: number;
    readonly env: Readonly<Record<string, string>>;
  },
): { readonly service: Service; readonly url: string } {
  const name = options.name ?? 'control-plane';
  const listen = `${options.plan.rootAddress}:${options.port}`;
  const url = `http://${listen}`;
  const service = createService({
    name,
    command: node,
    args: [script('control-plane/main.ts')],
    env: { HTTP_LISTEN: listen, POOLS: POOLS.join(','), BLOCK_PREFIX_V4: '26', ...options.env },
    logFile: join(options.directory, 'control-plane', `${name}.log`),
    onStart: options.onStart,
    ready: { what: 'readiness', timeoutMs: READY_TIMEOUT_MS, probe: () => isOk(`${url}/readyz`) },
  });
  return { service, url };
}

export async function createNode(
  options: CommonOptions & {
    readonly place: NodePlace;
    readonly authority: CertificateAuthority;
    readonly natsUrl: string;
    readonly env: Readonly<Record<string, string>>;
  },
): Promise<ClusterNode> {
  const { place, onStart } = options;
  const directory = join(options.directory, 'nodes', place.id);
  const stateDirectory = join(directory, 'state');
  mkdirSync(stateDirectory, { recursive: true, mode: 0o700 });
  const serverName = `${place.id}.masque-vpn.test`;
  const names = [serverName, place.address, place.address6];
  const certificate = await issueServerCertificate(options.authority, join(directory, 'tls'), place.id, names);
  const [command, args] = inNamespace(place.namespace, node, [script('data-plane/main.ts')]);
  const httpUrl = `http://${place.address}:${NODE_HTTP_PORT}`;
  const service = createService({
    name: place.id,
    command,
    args,
    env: {
      NODE_ID: place.id,
      NATS_URL: options.natsUrl,
      LISTEN: `${place.address}:${TUNNEL_PORT}`,
      TLS_CERT: certificate.certificateFile,
      TLS_KEY: certificate.keyFile,
      TUN_NAME,
      STATE_DIR: stateDirectory,
      HTTP_LISTEN: `${place.address}:${NODE_HTTP_PORT}`,
      ADVERTISE_ROUTES: usable([place.behind.prefix, place.behind.prefix6]).join(','),
      ...options.env,
    },
    logFile: join(directory, `${place.id}.log`),
    onStart,
    ready: { what: 'readiness', timeoutMs: READY_TIMEOUT_MS, probe: () => isOk(`${httpUrl}/readyz`) },
  });
  return {
    id: place.id,
    place,
    url: `https://${place.address}:${TUNNEL_PORT}`,
    serverName,
    httpUrl,
    metricsUrl: `${httpUrl}/metrics`,
    service,
    server: createDownloadServer(options.directory, place, onStart),
  };
}

function createDownloadServer(
  directory: string,
  place: NodePlace,
  onStart: (process: ManagedProcess) => void,
): Service {
  const { namespace } = place.behind;
  const [command, args] = inNamespace(namespace, node, [script('deploy/local/download-server.ts'), `${DOWNLOAD_PORT}`]);
  return createService({
    name: `server behind ${place.id}`,
    command,
    args,
    logFile: join(directory, 'nodes', place.id, 'server.log'),
    onStart,
    // It has no route to the launcher, on purpose: what reaches it comes through a tunnel. Downloads show that it runs.
    ready: { what: 'start', timeoutMs: READY_TIMEOUT_MS, probe: () => true },
  });
}

export function createClient(
  options: CommonOptions & {
    readonly place: SegmentPlace;
    readonly node: ClusterNode;
    readonly authority: CertificateAuthority;
    readonly token: string;
    readonly transport: TransportChoice;
  },
): ClusterClient {
  const { place, plan, onStart } = options;
  const directory = join(options.directory, 'clients', place.id);
  const statusFile = join(directory, 'status.json');
  const reportFile = join(directory, 'traffic.json');
  const [command, args] = inNamespace(place.namespace, node, [
    script('data-plane/client/main.ts'),
    // The node's name is in its certificate and in no DNS.
    ...['--url', `https://${options.node.serverName}:${TUNNEL_PORT}/.well-known/masque/ip/*/*/`],
    ...['--connect-to', new URL(options.node.url).host],
    ...['--ca', options.authority.certificateFile],
    ...['--transport', options.transport],
    ...['--tun', TUN_NAME],
    ...['--routes', usable(plan.behindPrefixes).join(',')],
    ...['--status-file', statusFile],
  ]);
  const status = () => readClientStatus(statusFile);
  const service = createService({
    name: place.id,
    command,
    args,
    env: { MASQUE_VPN_TOKEN: options.token },
    logFile: join(directory, `${place.id}.log`),
    onStart,
    ready: { what: 'tunnel', timeoutMs: READY_TIMEOUT_MS, probe: () => status()?.state === 'connected' },
  });
  let driver: Service | undefined;
  return {
    id: place.id,
    place,
    node: options.node,
    tun: TUN_NAME,
    token: options.token,
    service,
    status,
    traffic: () => readTrafficReport(reportFile),
    async startTraffic(load) {
      // One of a driver before says nothing of this one.
      rmSync(reportFile, { force: true });
      const { behind } = options.node.place;
      const has = (version: 4 | 6) => status()?.addresses.some((address) => address.includes(':') === (version === 6));
      const hosts = [...(has(4) ? [behind.address] : []), ...(has(6) ? [behind.address6] : [])];
      const [program, programArgs] = inNamespace(place.namespace, node, [
        script('deploy/local/traffic-driver.ts'),
        ...['--hosts', hosts.join(','), '--port', String(DOWNLOAD_PORT), '--bytes', String(load.bytesPerDownload)],
        ...['--pause', String(load.pauseMs), '--report', reportFile],
      ]);
      driver = createService({
        name: `traffic of ${place.id}`,
        command: program,
        args: programArgs,
        logFile: join(directory, 'traffic.log'),
        onStart,
        ready: { what: 'report', timeoutMs: READY_TIMEOUT_MS, probe: () => existsSync(reportFile) },
      });
      await driver.start();
    },
    async stopTraffic(deadlineMs = TRAFFIC_STOP_DEADLINE_MS) {
      await driver?.stop(deadlineMs);
      return readTrafficReport(reportFile);
    },
  };
}

/** Without IPv6 in the kernel, IPv4 alone. */
const usable = (prefixes: readonly string[]): readonly string[] =>
  hasIpv6() ? prefixes : prefixes.filter((prefix) => !prefix.includes(':'));
