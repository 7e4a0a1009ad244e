import { lookup } from 'node:dns/promises';
import { formatHostPort } from '../../shared/config/parse-config.ts';
import { CodedError, describeError } from '../../shared/errors.ts';
import type { TrafficTotals } from '../../shared/events/traffic-columns.ts';
import { type Logger, redactUrl } from '../../shared/log/logger.ts';
import { PacketThread } from '../packet-thread/packet-thread.ts';
import { Backoff } from './backoff.ts';
import type { ClientThreadCommand, ClientThreadReport, TunnelConfiguration } from './client-messages.ts';
import type { ClientConfig } from './config.ts';
import { ConnectionAttempt } from './connection-attempt.ts';
import { type ClientStatus, StatusFile } from './status-file.ts';

const STATUS_INTERVAL_MS = 1_000;

/** The client's main thread: starts the packet thread, opens the tunnel, and opens it again whenever it ends. */
export class VpnClient {
  readonly #config: ClientConfig;
  readonly #log: Logger;
  readonly #thread: PacketThread<ClientThreadCommand, ClientThreadReport>;
  readonly #backoff = new Backoff();
  readonly #statusFile: StatusFile | undefined;
  readonly #statusTimer: NodeJS.Timeout;
  #state: ClientStatus['state'] = 'connecting';
  #tun: string;
  #configuration: TunnelConfiguration = { addresses: [], routes: [] };
  #connects = 0;
  #totals: TrafficTotals = { bytesIn: 0, bytesOut: 0, packetsIn: 0, packetsOut: 0 };
  #lastError: string | null = null;
  #lastAddress: string | undefined;
  #attempts = 0;
  #attempt: ConnectionAttempt | undefined;
  #failure: CodedError | undefined;
  #retry: NodeJS.Timeout | undefined;
  #stopping = false;

  constructor(config: ClientConfig, log: Logger) {
    this.#config = config;
    this.#log = log;
    this.#tun = config.tun;
    const { tun, mtu, tunOffload, routes } = config;
    const options = { tun, mtu, tunOffload, routes };
    this.#thread = new PacketThread(new URL('./client-thread.ts', import.meta.url), options, (report) =>
      this.#onReport(report),
    );
    this.#statusFile = config.statusFile === undefined ? undefined : new StatusFile(config.statusFile, log);
    this.#statusTimer = setInterval(() => this.#writeStatus(), STATUS_INTERVAL_MS);
  }

  /** Resolves after `stop`, when the tunnel has ended; rejects with what the packet thread could not go on after. */
  async run(): Promise<void> {
    try {
      await this.#thread.ended;
      if (this.#failure !== undefined) throw this.#failure;
    } finally {
      clearInterval(this.#statusTimer);
      clearTimeout(this.#retry);
      this.#attempt?.close();
      this.#state = 'closed';
      this.#writeStatus();
    }
  }

  /** Ends the tunnel and tells the node. */
  stop(): void {
    this.#stopping = true;
    clearTimeout(this.#retry);
    this.#thread.post({ type: 'stop' });
  }

  #onReport(report: ClientThreadReport): void {
    // Of an attempt before, which has ended here already.
    if ('attempt' in report && report.attempt !== this.#attempt?.number) return;
    switch (report.type) {
      case 'ready':
        this.#tun = report.tun;
        void this.#connect();
        return;
      case 'configured':
        if (this.#state !== 'connected') this.#connects++;
        this.#state = 'connected';
        this.#configuration = report.configuration;
        this.#lastError = null;
        this.#backoff.reset();
        this.#log.info(
          { ...report.configuration, transport: this.#attempt?.transport, tun: this.#tun },
          'tunnel is open',
        );
        this.#writeStatus();
        return;
      case 'prepared':
      case 'http3Ready':
      case 'ended':
        this.#attempt?.receive(report);
        return;
      case 'counters':
        this.#totals = report.totals;
        return;
      case 'fatal':
        this.#lastError = report.message;
        this.#failure = new CodedError(report.code, report.message);
        return;
      default:
        report satisfies never;
    }
  }

  async #connect(): Promise<void> {
    const { connectTo, url, token, ca, certificate, transport } = this.#config;
    try {
      const address = await this.#addressOf(connectTo.host);
      const serverAddress = formatHostPort({ host: address, port: connectTo.port });
      const options = { url: url.href, token, ca, certificate, serverAddress };
      this.#attempt = new ConnectionAttempt(++this.#attempts, transport, options, {
        post: (command) => this.#thread.post(command),
        onEnded: (reason) => this.#connectLater(reason),
      });
    } catch (error) {
      this.#connectLater(describeError(error));
    }
  }

  #connectLater(why: string): void {
    this.#attempt = undefined;
    this.#state = 'connecting';
    this.#lastError = why;
    if (this.#stopping) return;
    const waitMs = this.#backoff.next(Math.random());
    this.#log.warn({ why, waitMs: Math.round(waitMs) }, 'no tunnel, trying again');
    this.#retry = setTimeout(() => void this.#connect(), waitMs);
  }

  // The way to the resolver may lead into the tunnel that is down: the address that worked is better than none.
  async #addressOf(host: string): Promise<string> {
    try {
      this.#lastAddress = (await lookup(host)).address;
    } catch (error) {
      if (this.#lastAddress === undefined) throw error;
      this.#log.warn({ host, why: describeError(error) }, 'the name cannot be looked up, using its last address');
    }
    return this.#lastAddress;
  }

  #writeStatus(): void {
    const { url, mtu } = this.#config;
    this.#statusFile?.write({
      state: this.#state,
      url: redactUrl(url.href),
      tun: this.#tun,
      transport: (this.#state === 'connected' && this.#attempt?.transport) || null,
      addresses: this.#configuration.addresses,
      mtu,
      connects: this.#connects,
      bytesSent: this.#totals.bytesIn,
      bytesReceived: this.#totals.bytesOut,
      packetsSent: this.#totals.packetsIn,
      packetsReceived: this.#totals.packetsOut,
      lastError: this.#lastError,
    });
  }
}
