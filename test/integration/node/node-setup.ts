import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Cluster, type ClusterOptions, startCluster } from '../../../deploy/local/cluster.ts';
import { scrape } from '../../../deploy/local/http-client.ts';
import { inNamespace } from '../../../deploy/local/netns-topology.ts';
import { type Sample, sumOf } from '../../../deploy/local/prometheus-text.ts';
import { type PeerTarget, RefusedError } from '../../support/test-peer.ts';
import { StopWaiting, type Truthy, waitFor } from '../../support/wait-for.ts';

const run = promisify(execFile);
const TIMEOUT_MS = 15_000;

/** A cluster of one node, on whose segment test peers meet it from the root namespace. */
export async function startOneNode(options: Omit<ClusterOptions, 'nodes'>): Promise<Cluster> {
  return startCluster({ ...options, nodes: ['node-a'] });
}

export function targetOf(cluster: Cluster, nodeId = 'node-a'): PeerTarget {
  const node = cluster.node(nodeId);
  return {
    server: new URL(node.url).host,
    serverName: node.serverName,
    ca: readFileSync(join(cluster.directory, 'pki', 'ca.pem'), 'utf8'),
    from: cluster.plan.rootAddress,
  };
}

/** Enrols a client, in the default pool where none is named, and answers its token, which the node hears of soon (`openWhenKnown`). */
export async function enrol(cluster: Cluster, id: string, pool?: string): Promise<string> {
  return (await cluster.api<{ token: string }>('POST', '/v1/clients', { id, pool })).token;
}

/** Opens a tunnel of a client that was enrolled just now: until the node has heard of it, its token is that of a stranger. */
export function openWhenKnown<T>(open: () => Promise<T>): Promise<Truthy<T>> {
  const attempt = () =>
    open().catch((error: unknown) => {
      if (error instanceof RefusedError && error.status === 401) throw error;
      throw new StopWaiting('the tunnel does not open', { cause: error });
    });
  return waitFor(attempt, { timeoutMs: TIMEOUT_MS, what: 'the node to know the token' });
}

/** Metrics of the one node, as of its last traffic window. */
export function nodeMetrics(cluster: Cluster): Promise<Sample[]> {
  return scrape(cluster.node('node-a').metricsUrl);
}

export interface Errors {
  readonly auth: number;
  readonly connection: number;
  readonly packet: number;
  readonly other: number;
}

/** masque_vpn_errors_total of the whole cluster. */
export async function errorsOf(cluster: Cluster): Promise<Errors> {
  const samples = await scrape(`${cluster.controlPlaneUrl}/metrics`);
  const of = (type: string) => sumOf(samples, 'masque_vpn_errors_total', { type });
  return { auth: of('auth'), connection: of('connection'), packet: of('packet'), other: of('other') };
}

/** Waits until the metrics show exactly these errors; more than that is for the end of the test to see. */
export async function untilErrors(cluster: Cluster, expected: Errors): Promise<void> {
  const text = JSON.stringify(expected);
  let last = '';
  await waitFor(
    async () => {
      last = JSON.stringify(await errorsOf(cluster));
      return last === text;
    },
    { timeoutMs: TIMEOUT_MS, what: `errors ${text}` },
  ).catch((cause) => {
    throw new Error(`errors are ${last}, expected ${text}`, { cause });
  });
}

/** UDP datagrams that reached a namespace, whether or not somebody listens there, in IPv4 and IPv6. */
export async function udpSeen(namespace: string): Promise<number> {
  const files = ['/proc/net/snmp', '/proc/net/snmp6'];
  const [command, args] = inNamespace(namespace, 'sh', ['-c', `cat ${files.join(' ')} 2>/dev/null || true`]);
  const { stdout } = await run(command, args);
  const [names, values] = stdout.split('\n').filter((line) => line.startsWith('Udp:'));
  const column = (name: string) => Number(values?.split(' ')[names?.split(' ').indexOf(name) ?? -1] ?? 0);
  const v6 = (name: string) => Number(new RegExp(`^${name}\\s+(\\d+)$`, 'm').exec(stdout)?.[1] ?? 0);
  return column('InDatagrams') + column('NoPorts') + v6('Udp6InDatagrams') + v6('Udp6NoPorts');
}

export interface PingResult {
  readonly sent: number;
  readonly received: number;
}

/** Pings that go on until `stop`. */
export class Pinging {
  readonly #child: ChildProcess;
  readonly #done: Promise<string>;

  constructor(namespace: string, address: string) {
    const [command, args] = inNamespace(namespace, 'ping', ['-n', '-i', '0.1', '-W', '5', address]);
    this.#child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#done = new Promise((resolve) => {
      let text = '';
      this.#child.stdout?.on('data', (chunk) => {
        text += chunk;
      });
      this.#child.once('close', () => resolve(text));
    });
  }

  /** Its summary comes on SIGINT; the last ping may still be under way then. */
  async stop(): Promise<PingResult> {
    this.#child.kill('SIGINT');
    const text = await this.#done;
    const counts = /(\d+) packets transmitted, (\d+) received/.exec(text);
    if (counts === null) throw new Error(`ping said: ${text}`);
    return { sent: Number(counts[1]), received: Number(counts[2]) };
  }
}
