import { randomBytes } from 'node:crypto';
import type { Logger } from '../../shared/log/logger.ts';
import type { NatsLink } from '../control-link/nats-link.ts';
import type { NodeDatabase } from '../state/node-database.ts';
import type { ConnectionFailure } from './failure-folding.ts';
import { FailureReporter } from './failure-reporter.ts';
import { EventPublisher } from './publisher.ts';
import { Spool, type SpoolOptions } from './spool.ts';
import { type ConnectionSnapshot, TrafficWindows, type WindowCounters } from './traffic-windows.ts';

/** After a stop was asked for: what the last events' way to NATS may take. */
const PUBLISH_TIMEOUT_MS = 5_000;

const SOFTWARE_VERSION = '0.1.0';

export interface NodeRecordOptions {
  readonly node: string;
  readonly shards: number;
  readonly database: NodeDatabase;
  readonly link: NatsLink;
  readonly spoolLimits: Pick<SpoolOptions, 'maxEvents' | 'maxBytes'>;
  readonly log: Logger;
}

/** What is told of a node, by events: its starts and stops, failed connections, traffic; spooled on disk, and published from there. */
export class NodeRecord {
  /** Of this process. */
  readonly incarnation = randomBytes(16).toString('hex');
  readonly spool: Spool;
  readonly publisher: EventPublisher;
  readonly #log: Logger;
  readonly #failures: FailureReporter;
  /** By shard. */
  readonly #windows: readonly TrafficWindows[];

  constructor({ node, shards, database, link, spoolLimits, log }: NodeRecordOptions) {
    this.#log = log;
    this.spool = new Spool(database, { ...spoolLimits, node, incarnation: this.incarnation });
    this.publisher = new EventPublisher({ spool: this.spool, link, log });
    this.#failures = new FailureReporter({ spool: this.spool, log });
    const startedAt = new Date();
    this.#windows = Array.from(
      { length: shards },
      () => new TrafficWindows({ append: (events) => this.spool.append(events), startedAt }),
    );
  }

  /** Resolves when the start is on disk. */
  async started(listen: string, tunnelMtu: number): Promise<void> {
    const at = new Date().toISOString();
    await this.spool.append([
      { type: 'node.started', at, data: { softwareVersion: SOFTWARE_VERSION, listen, tunnelMtu } },
    ]);
    this.#failures.start();
  }

  failed(failure: ConnectionFailure): void {
    this.#failures.report(failure);
  }

  /** A traffic window of a shard ended. */
  window(shard: number, connections: readonly ConnectionSnapshot[], counters: WindowCounters): void {
    this.#windows[shard]?.record(new Date(), connections, counters).catch((error: unknown) => {
      this.#log.warn({ err: error }, 'a traffic window waits for room in the spool');
    });
  }

  /** A connection has ended: no more traffic of it comes. */
  forget(shard: number, connectionId: string): void {
    this.#windows[shard]?.forget(connectionId);
  }

  /** The windows until now are in the spool, unless the disk refuses. */
  async settle(): Promise<void> {
    await Promise.all(this.#windows.map((windows) => windows.settle()));
  }

  /** A disk that refuses is no reason to leave without goodbyes. */
  async stopping(type: 'node.draining' | 'node.stopped'): Promise<void> {
    if (type === 'node.stopped') await this.#failures.stop();
    try {
      await this.spool.append([{ type, at: new Date().toISOString(), data: { reason: 'asked to stop' } }]);
    } catch (error) {
      this.#log.error({ err: error, type }, 'the stop cannot be recorded');
    }
  }

  /** Publishes what is left, as far as there is time; the rest stays in the spool. */
  async stop(): Promise<void> {
    await this.publisher.stop(PUBLISH_TIMEOUT_MS);
  }
}
