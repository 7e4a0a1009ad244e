import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConnection } from 'nats';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log/logger.ts';
import { connectNats } from '../../shared/nats/connect.ts';

/** Ours: pause before connecting afresh when the client has given up for good (e.g. refused credentials). */
const RENEW_AFTER_MS = 2_000;
/** Ours: what a closing node waits for NATS to take what is buffered. */
const FLUSH_TIMEOUT_MS = 1_000;

/** The node's way to NATS, as its users see it: there or not there. */
export interface Link {
  /** The connection while it is up. Publishing while it is down would only fill memory. */
  readonly connection: NatsConnection | undefined;
  /** Calls back each time the connection comes up, also now if it is. Returns the way to stop. */
  onUp(listener: (connection: NatsConnection) => void): () => void;
  onDown(listener: () => void): () => void;
}

export interface NatsLinkOptions {
  readonly url: string;
  /** Shown in the server's list of connections. */
  readonly name: string;
  /** Where replies and the like are received: the node's own, which the others cannot listen to. */
  readonly inboxPrefix: string;
  readonly log: Logger;
}

/** Connects to NATS in the background and stays connected until `close`; the node works without it. */
export class NatsLink implements Link {
  readonly #options: NatsLinkOptions;
  readonly #abort = new AbortController();
  readonly #upListeners = new Set<(connection: NatsConnection) => void>();
  readonly #downListeners = new Set<() => void>();
  #connection: NatsConnection | undefined;
  #up = false;
  #running: Promise<void> | undefined;

  constructor(options: NatsLinkOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  get connected(): boolean {
    return this.#up;
  }

  get connection(): NatsConnection | undefined {
    return this.#up ? this.#connection : undefined;
  }

  onUp(listener: (connection: NatsConnection) => void): () => void {
    this.#upListeners.add(listener);
    if (this.#up && this.#connection !== undefined) listener(this.#connection);
    return () => this.#upListeners.delete(listener);
  }

  onDown(listener: () => void): () => void {
    this.#downListeners.add(listener);
    return () => this.#downListeners.delete(listener);
  }

  /** Sends what is buffered, if NATS is there, and ends the connection. */
  async close(): Promise<void> {
    this.#abort.abort();
    const connection = this.#connection;
    if (connection !== undefined && !connection.isClosed()) {
      // A server that goes away meanwhile would let the flush wait for its return.
      if (this.#up)
        await Promise.race([
          connection.flush().catch(() => undefined),
          delay(FLUSH_TIMEOUT_MS, undefined, { ref: false }),
        ]);
      await connection.close();
    }
    await this.#running;
  }

  async #run(): Promise<void> {
    const { url, name, inboxPrefix, log } = this.#options;
    const { signal } = this.#abort;
    while (!signal.aborted) {
      try {
        const connection = await connectNats(url, name, log, signal, inboxPrefix);
        if (signal.aborted) {
          await connection.close();
          return;
        }
        this.#connection = connection;
        void this.#follow(connection);
        this.#setUp(true);
        const error = await connection.closed();
        this.#setUp(false);
        if (!signal.aborted) log.warn({ reason: describeError(error) }, 'NATS connection ended, connecting afresh');
      } catch (error) {
        if (!signal.aborted) log.warn({ err: error }, 'NATS connection failed, connecting afresh');
      }
      if (!signal.aborted) await pause(RENEW_AFTER_MS, signal);
    }
  }

  async #follow(connection: NatsConnection): Promise<void> {
    for await (const status of connection.status()) {
      if (connection !== this.#connection) return;
      if (status.type === 'disconnect') this.#setUp(false);
      if (status.type === 'reconnect') this.#setUp(true);
    }
  }

  #setUp(up: boolean): void {
    // A reconnect that was seen without its disconnect is still a new session.
    if (!up && !this.#up) return;
    this.#up = up;
    const connection = this.#connection;
    if (!up) this.#tell(this.#downListeners, undefined);
    else if (connection !== undefined) this.#tell(this.#upListeners, connection);
  }

  #tell<T>(listeners: Iterable<(value: T) => void>, value: T): void {
    for (const listener of listeners) {
      try {
        listener(value);
      } catch (err) {
        this.#options.log.error({ err }, 'a user of the NATS connection has failed');
      }
    }
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
  });
}
