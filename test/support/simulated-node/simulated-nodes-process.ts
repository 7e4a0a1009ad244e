import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createService, type Service, type ServiceSpec } from '../../../deploy/local/service.ts';
import { AcceptedEvents } from './accepted-events.ts';
import type { SimulatedLoad } from './simulated-load.ts';
import type { SimulatedNodeOptions } from './simulated-node.ts';

const READY_TIMEOUT_MS = 60_000;
/** Up to a thousand nodes share the heap, and threads that help to collect its garbage cost more than they bring. */
const HEAP = ['--max-semi-space-size=64', '--single-threaded-gc'];
const MAIN = fileURLToPath(new URL('./simulated-nodes-main.ts', import.meta.url));

/** What the process reads. */
export interface SimulatedNodesPlan {
  readonly nodes: readonly { readonly id: string; readonly natsUrl: string; readonly clients: readonly string[] }[];
  readonly load: SimulatedLoad;
  readonly spool?: NonNullable<SimulatedNodeOptions['spool']>;
  /** Of all nodes, each has a directory in it. */
  readonly stateDirectory: string;
  readonly acceptedFile: string;
  readonly statusFile: string;
}

/** What the process says of all its nodes together, four times a second. */
export interface SimulatedNodesStatus {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly loadEnded: boolean;
  /** Nodes with a connection to NATS. */
  readonly connected: number;
  /** Nodes with addresses to give. */
  readonly supplied: number;
  readonly connections: number;
  /** Events of all lives. */
  readonly accepted: number;
  /** Events that the nodes do not know to be committed. */
  readonly depth: number;
  /** The longest that any node has waited for its watermark to move, up to now, with something to be committed. */
  readonly slowestWatermarkMs: number;
  /** Of this life. */
  readonly refusals: number;
  readonly repeated: number;
}

export interface SimulatedNodesOptions
  extends Omit<SimulatedNodesPlan, 'acceptedFile' | 'statusFile' | 'stateDirectory'> {
  readonly name: string;
  /** Keeps plan, status, log and what was accepted. */
  readonly directory: string;
  /** Default: in `directory`. */
  readonly stateDirectory?: string;
  readonly onStart?: NonNullable<ServiceSpec['onStart']>;
}

/** A process with simulated nodes, which can be killed, frozen and started again on the same state. */
export class SimulatedNodesProcess {
  readonly service: Service;
  /** The ids of its nodes. */
  readonly nodes: readonly string[];
  /** Each node has its own in it. */
  readonly stateDirectory: string;
  readonly #acceptedFile: string;
  readonly #statusFile: string;

  constructor({ name, directory, onStart, stateDirectory, ...plan }: SimulatedNodesOptions) {
    const file = (suffix: string) => join(directory, `${name}.${suffix}`);
    this.nodes = plan.nodes.map(({ id }) => id);
    this.stateDirectory = stateDirectory ?? join(directory, `${name}-state`);
    this.#acceptedFile = file('accepted');
    this.#statusFile = file('status.json');
    const whole: SimulatedNodesPlan = {
      ...plan,
      stateDirectory: this.stateDirectory,
      acceptedFile: this.#acceptedFile,
      statusFile: this.#statusFile,
    };
    const planFile = file('plan.json');
    writeFileSync(planFile, JSON.stringify(whole), { mode: 0o600 });
    this.service = createService({
      name,
      command: process.execPath,
      args: [...HEAP, MAIN, planFile],
      logFile: file('log'),
      ...(onStart && { onStart }),
      ready: { what: 'status', timeoutMs: READY_TIMEOUT_MS, probe: () => this.status() },
    });
  }

  /** Resolves when its nodes are started; NATS and addresses may come later. */
  async start(): Promise<void> {
    await this.launch();
    await this.service.untilReady();
  }

  /** Does not wait for its nodes. */
  async launch(): Promise<void> {
    rmSync(this.#statusFile, { force: true });
    await this.service.launch();
  }

  /** Undefined before it was started. */
  status(): SimulatedNodesStatus | undefined {
    if (!existsSync(this.#statusFile)) return undefined;
    return JSON.parse(readFileSync(this.#statusFile, 'utf8')) as SimulatedNodesStatus;
  }

  /** What its nodes have accepted in all lives. A life that was killed may have accepted a little more. */
  accepted(): AcceptedEvents {
    return new AcceptedEvents(this.#acceptedFile);
  }

  /** Ends load and connections; `status().loadEnded` says when. */
  endLoad(): void {
    this.service.process().signal('SIGUSR2');
  }
}
