import { setTimeout as delay } from 'node:timers/promises';
import { CodedError, describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log/logger.ts';
import { socketPair } from '../byte-channel/socket-pair.ts';
import { closeQuietly } from '../os/libc.ts';
import { WorkerThread } from '../packet-thread/worker-thread.ts';
import type { TlsIdentity } from '../tls/tls-identity.ts';
import {
  type FailureReport,
  type RequestReport,
  type ServerThreadCommand,
  WEB_THREAD_FAILED,
} from '../tunnel/tunnel-messages.ts';
import {
  NO_WEB_STATE,
  type WebState,
  type WebThreadCommand,
  type WebThreadOptions,
  type WebThreadReport,
} from './web-messages.ts';

type Of<T extends ServerThreadCommand['type']> = Extract<ServerThreadCommand, { type: T }>;

export interface WebGatewayOptions {
  readonly thread: Omit<WebThreadOptions, 'start'>;
  readonly log: Logger;
  /** A client asks for a tunnel; the answer goes to `accept` or `reject`. */
  readonly onRequest: (request: RequestReport) => void;
  readonly onFailed: (failure: FailureReport) => void;
  /** Of WebTransport: why the package does not serve it over HTTP/3; null where it does. */
  readonly onWebTransportLoaded?: (http3Problem: string | null) => void;
  /** To the packet thread that has, or is to have, the tunnel. False when it has ended. */
  readonly post: (command: Of<'adopt' | 'lost'>) => boolean;
}

/** What the goodbyes of connections without a tunnel may take; tunnels end when the packet threads say so. */
const DRAIN_TIMEOUT_MS = 3_000;
/** A web thread that failed is started again after this long (ours); its clients come back by themselves. */
const RESTART_DELAY_MS = 1_000;

/** The main thread's side of the web thread: it starts it, and joins its tunnels to packet threads. */
export class WebGateway {
  readonly #options: WebGatewayOptions;
  /** Tunnels that were given to the web thread, until they are closed. */
  readonly #tunnels = new Set<string>();
  #thread: WorkerThread<WebThreadCommand, WebThreadReport> | undefined;
  /** For a thread that has to be started again, too. */
  #identity: TlsIdentity;
  #state = NO_WEB_STATE;
  /** One that never started is not started again: its address is not to be had. */
  #wasReady = false;
  #lastRequestId = 0;
  #stopping = false;
  #restart: NodeJS.Timeout | undefined;
  #onDrained: () => void = () => {};

  constructor(options: WebGatewayOptions) {
    this.#options = options;
    this.#identity = options.thread.identity;
  }

  get state(): WebState {
    return this.#state;
  }

  /** Resolves with the address that is listened on. Rejects with a CodedError when it is not to be had. */
  start(): Promise<string> {
    return new Promise((resolve, reject) => {
      const entry = new URL('./web-thread-main.ts', import.meta.url);
      const options: WebThreadOptions = {
        ...this.#options.thread,
        identity: this.#identity,
        start: { ...this.#state, firstRequestId: this.#lastRequestId + 1 },
      };
      const thread = new WorkerThread<WebThreadCommand, WebThreadReport>(entry, options, (report) => {
        if (report.type === 'ready') {
          this.#wasReady = true;
          resolve(report.listen);
        } else if (report.type === 'fatal') reject(new CodedError(report.code, report.message));
        else this.#onReport(report);
      });
      this.#thread = thread;
      thread.ended.then(
        () => this.#ended('it ended', reject),
        (error: unknown) => this.#ended(describeError(error), reject),
      );
    });
  }

  /** Gives a tunnel that was let in to both threads. Throws OsError, e.g. EMFILE, when they cannot be joined. */
  accept({ type: _, requestId, ...grant }: Of<'accept'>): void {
    const { connectionId } = grant;
    const [packetEnd, webEnd] = socketPair();
    this.#tunnels.add(connectionId);
    if (!this.#options.post({ type: 'adopt', fd: packetEnd, ...grant })) closeQuietly(packetEnd);
    if (this.#thread?.post({ type: 'accept', requestId, connectionId, fd: webEnd }) !== true) closeQuietly(webEnd);
  }

  reject(answer: Of<'reject'>): void {
    this.#thread?.post(answer);
  }

  /** The packet thread ended a tunnel by an error. */
  abort(connectionId: string, errorCode: number): void {
    this.#thread?.post({ type: 'abort', connectionId, errorCode });
  }

  /** A tunnel has ended, of whatever thread. */
  closed(connectionId: string): void {
    this.#tunnels.delete(connectionId);
  }

  /** New connections get this identity, those that are there keep theirs. */
  renew(identity: TlsIdentity): void {
    this.#identity = identity;
    this.#thread?.post({ type: 'renewIdentity', identity });
  }

  /** No new connections and requests: clients are told. Tunnels live on. */
  announceDrain(): void {
    this.#thread?.post({ type: 'announceDrain' });
  }

  /** No new connections; resolves when all have closed, or that takes too long. */
  async drain(): Promise<void> {
    this.#stopping = true;
    const drained = new Promise<void>((resolve) => {
      this.#onDrained = resolve;
    });
    if (this.#thread?.post({ type: 'drain' }) !== true) return;
    await Promise.race([drained, delay(DRAIN_TIMEOUT_MS, undefined, { ref: false })]);
  }

  stop(): void {
    this.#stopping = true;
    clearTimeout(this.#restart);
    this.#thread?.post({ type: 'stop' });
  }

  #onReport(report: Exclude<WebThreadReport, { type: 'ready' | 'fatal' }>): void {
    switch (report.type) {
      case 'request':
        this.#lastRequestId = report.requestId;
        this.#options.onRequest(report);
        return;
      case 'failed':
        this.#options.onFailed(report);
        return;
      case 'lost':
        this.#options.post(report);
        return;
      case 'state':
        this.#state = report;
        return;
      case 'drained':
        this.#onDrained();
        return;
      case 'webTransportLoaded':
        this.#options.onWebTransportLoaded?.(report.http3Problem);
        return;
      default:
        report satisfies never;
    }
  }

  #ended(why: string, reject: (error: Error) => void): void {
    this.#onDrained();
    this.#state = { ...this.#state, connections: 0, handshakes: 0 };
    // Nothing happens where it was ready.
    reject(new CodedError('WEB_THREAD', `${WEB_THREAD_FAILED}: ${why}`));
    if (this.#stopping || !this.#wasReady) return;
    this.#options.log.error({ why }, 'the web thread failed and is started again; its clients have to come back');
    // The packet thread has seen it by the end of the channel, unless the thread had not taken up its end yet.
    for (const connectionId of this.#tunnels)
      this.#options.post({ type: 'lost', connectionId, reason: 'error', detail: WEB_THREAD_FAILED });
    this.#restart = setTimeout(() => {
      this.start().catch((error: unknown) => {
        this.#options.log.error({ err: error }, 'the web thread does not start');
      });
    }, RESTART_DELAY_MS);
  }
}
