import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ManagedProcess, startProcess } from '../deploy/local/child-process.ts';
import { inNamespace } from '../deploy/local/netns-topology.ts';
import type { BenchContext } from './bench-context.ts';
import { type IperfResult, parseIperf } from './iperf-result.ts';
import { runTool } from './run-tool.ts';

export interface IperfRun {
  readonly clientNamespace: string;
  readonly address: string;
  readonly direction: 'up' | 'down';
  readonly seconds: number;
  readonly streams?: number;
  /** Datagrams at this rate instead of TCP. */
  readonly udpMbps?: number;
}

const START_TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 5_000;
/** What a run may take longer than its streams do. */
const RUN_MARGIN_MS = 15_000;
/** A run that broke is tried once more: hundreds of them make one benchmark. */
const ATTEMPTS = 2;
/** Fits into the smallest MTU of all paths, in IPv6 too. */
const UDP_PAYLOAD_BYTES = 1_200;
/** Bytes of socket buffer, as far as the kernel allows: the default holds 92 datagrams, less than what comes in one time slice. */
const UDP_WINDOW_BYTES = 2 * 2 ** 20;

/** iperf3 on both ends: servers in one namespace, and runs from others. */
export class IperfServers {
  readonly #context: BenchContext;
  readonly #serverNamespace: string;
  /** By address: one that listens on all of them would answer datagrams from another than they were sent to. */
  readonly #servers = new Map<string, ManagedProcess>();

  constructor(context: BenchContext, serverNamespace: string) {
    this.#context = context;
    this.#serverNamespace = serverNamespace;
    context.atEnd(() => Promise.all([...this.#servers.values()].map((server) => server.stop())));
  }

  async run(run: IperfRun): Promise<IperfResult> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#start(run.address);
        return parseIperf(
          await runTool(this.#context, this.#command(run), run.seconds * 1_000 + CONNECT_TIMEOUT_MS + RUN_MARGIN_MS),
        );
      } catch (error) {
        this.#context.signal.throwIfAborted();
        if (attempt === ATTEMPTS) throw error;
        this.#context.progress(`once more: ${error instanceof Error ? error.message : error}`);
        await this.#servers.get(run.address)?.kill();
      }
    }
  }

  async #start(address: string): Promise<void> {
    if (this.#servers.get(address)?.exitStatus() === undefined && this.#servers.has(address)) return;
    const options = ['--server', '--forceflush', '--bind', address];
    const [command, args] = inNamespace(this.#serverNamespace, 'iperf3', options);
    const logFile = join(this.#context.directory, 'iperf3', `${randomUUID()}.log`);
    const server = await startProcess({ name: `iperf3 on ${address}`, command, args, logFile });
    this.#servers.set(address, server);
    const listens = () => readFileSync(logFile, 'latin1').includes('Server listening');
    await server.untilReady(listens, 'its port', START_TIMEOUT_MS);
  }

  #command({ clientNamespace, address, direction, seconds, streams, udpMbps }: IperfRun): [string, string[]] {
    return inNamespace(clientNamespace, 'iperf3', [
      ...['--client', address, '--json', '--time', `${seconds}`, '--connect-timeout', `${CONNECT_TIMEOUT_MS}`],
      ...(direction === 'down' ? ['--reverse'] : []),
      ...(streams === undefined ? [] : ['--parallel', `${streams}`]),
      ...(udpMbps === undefined ? [] : ['--udp', '--bitrate', `${Math.round(udpMbps * 1e6)}`]),
      ...(udpMbps === undefined ? [] : ['--length', `${UDP_PAYLOAD_BYTES}`, '--window', `${udpWindow()}`]),
    ]);
  }
}

/** iperf3 gives up where it does not get the window that it asked for. */
function udpWindow(): number {
  const allowed = ['rmem_max', 'wmem_max'].map((name) => Number(readFileSync(`/proc/sys/net/core/${name}`, 'latin1')));
  return Math.min(UDP_WINDOW_BYTES, ...allowed);
}
