import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { CodedError } from '../shared/errors.ts';
import type { CloseReason } from '../shared/events/node-events.ts';
import { formatAddress } from '../shared/ip/address.ts';
import { nodeAddress, type PoolBlock } from '../shared/ip/block.ts';
import { formatPrefix, parsePrefix } from '../shared/ip/prefix.ts';
import type { Logger } from '../shared/log/logger.ts';
import { nodeInbox } from '../shared/nats/node-permissions.ts';
import { AddressBook } from './address/address-book.ts';
import { BlockClient } from './address/block-client.ts';
import { BlockLeases } from './address/block-leases.ts';
import { monotonicMs } from './address/boot-clock.ts';
import { Admission, type TunnelRequest } from './admission.ts';
import type { NodeConfig } from './config.ts';
import { NatsLink } from './control-link/nats-link.ts';
import { PresenceSender } from './control-link/presence.ts';
import { CredentialStore } from './credentials/credential-store.ts';
import { type NodeHttpServer, startNodeHttpServer } from './node-http/node-http-server.ts';
import { NodeMetrics } from './node-http/node-metrics.ts';
import { PacketThread } from './packet-thread/packet-thread.ts';
import { NO_QUIC_STATE } from './quic/quic-server-state.ts';
import { RETRY_KEY_BYTES } from './quic/retry-token.ts';
import { resolveHostname } from './resolve-hostname.ts';
import { NodeDatabase } from './state/node-database.ts';
import type { ConnectionFailure } from './telemetry/failure-folding.ts';
import { FailureReporter } from './telemetry/failure-reporter.ts';
import { EventPublisher } from './telemetry/publisher.ts';
import { Spool } from './telemetry/spool.ts';
import { TrafficWindows } from './telemetry/traffic-windows.ts';
import type {
  ServerThreadCommand,
  ServerThreadOptions,
  ServerThreadReport,
  TunnelBlock,
} from './tunnel/tunnel-messages.ts';

/** After a stop was asked for: what the clients' goodbyes, and then the last events' way to NATS, may take. */
const DRAIN_TIMEOUT_MS = 3_000;
const PUBLISH_TIMEOUT_MS = 5_000;
/** A packet thread that does not end must not keep its node from ending. */
const THREAD_TIMEOUT_MS = 3_000;

export const SOFTWARE_VERSION = '0.1.0';

/** One data-plane node: its main thread, which decides and records, and the packet thread that it starts. */
export class Node {
  readonly #config: NodeConfig;
  readonly #log: Logger;
  readonly #database: NodeDatabase;
  readonly #spool: Spool;
  readonly #link: NatsLink;
  readonly #publisher: EventPublisher;
  readonly #presence: PresenceSender;
  readonly #credentials: CredentialStore;
  readonly #book: AddressBook;
  readonly #blocks: BlockClient;
  readonly #admission: Admission;
  readonly #failures: FailureReporter;
  readonly #windows: TrafficWindows;
  readonly #metrics: NodeMetrics;
  #thread: PacketThread<ServerThreadCommand, ServerThreadReport> | undefined;
  #http: NodeHttpServer | undefined;
  #threadReady = false;
  #quic = NO_QUIC_STATE;
  #onDrained: () => void = () => {};
  #onFatal: (error: Error) => void = () => {};
  /** Blocks that the packet thread is setting up, and what waits for that. */
  readonly #blocksToCome = new Map<string, (problem: string | null) => void>();
  /** Rejects with what the node cannot go on without. */
  readonly failed: Promise<never>;

  /** Opens the state directory. Throws StateError. */
  constructor(config: NodeConfig, log: Logger) {
    const { NODE_ID: node } = config;
    this.#config = config;
    this.#log = log;
    this.failed = new Promise((_resolve, reject) => {
      this.#onFatal = (error) => {
        for (const settle of this.#blocksToCome.values()) settle(error.message);
        reject(error);
      };
    });
    this.#database = new NodeDatabase(config.STATE_DIR);
    const database = this.#database;
    const incarnation = randomBytes(16).toString('hex');
    this.#spool = new Spool(database, { node, incarnation });
    this.#link = new NatsLink({ url: config.NATS_URL, name: `node ${node}`, inboxPrefix: nodeInbox(node), log });
    const link = this.#link;
    this.#publisher = new EventPublisher({ spool: this.#spool, link, log });
    const presence = () => ({ epoch: this.#spool.epoch, incarnation });
    this.#presence = new PresenceSender({ node, link, log, presence });
    this.#credentials = new CredentialStore({ link, database, log, onRevoked: (clientId) => this.#revoke(clientId) });
    const leases = new BlockLeases();
    this.#book = new AddressBook({
      now: monotonicMs,
      mayAssign: ({ block }) => leases.isAssignable(block, monotonicMs()),
      stored: AddressBook.load(database.reader),
    });
    this.#blocks = new BlockClient({
      node,
      link,
      database,
      leases,
      book: this.#book,
      log,
      onBlockGranted: (poolBlock) => this.#addBlock(tunnelBlock(poolBlock)),
      onBlockLost: (poolBlock, connections) => {
        for (const connectionId of connections) this.#close(connectionId, 'error', 'the address block was lost');
        this.#thread?.post({ type: 'removeBlock', block: tunnelBlock(poolBlock) });
      },
    });
    this.#admission = new Admission({
      canAuthenticate: () => this.#credentials.ready,
      authenticate: (token) => this.#credentials.authenticate(token),
      book: this.#book,
      spool: this.#spool,
      tunnelMtu: config.TUNNEL_MTU,
      maxTunnelsPerClient: config.MAX_TUNNELS_PER_CLIENT,
      advertiseRoutes: config.ADVERTISE_ROUTES.map(parsePrefix),
      resolve: resolveHostname,
      log,
    });
    this.#failures = new FailureReporter({ spool: this.#spool, log });
    this.#windows = new TrafficWindows({ append: (events) => this.#spool.append(events), startedAt: new Date() });
    this.#metrics = new NodeMetrics({
      spool: () => this.#spool,
      publisher: () => this.#publisher.stats,
      activeConnections: () => this.#admission.size,
      blocks: () => this.#blocks.blocks,
      addresses: (family) => this.#book.count(family),
      natsConnected: () => this.#link.connected,
      quic: () => this.#quic,
    });
  }

  /** Resolves when packets flow; NATS and the control plane may come later. Rejects when a port or the TUN device is not to be had. */
  async start(): Promise<void> {
    const config = this.#config;
    this.#http = await startNodeHttpServer({
      listen: config.HTTP_LISTEN,
      registry: this.#metrics.registry,
      notReady: () => this.#notReady(),
      log: this.#log,
    });
    const listen = await this.#startThread();
    const at = new Date().toISOString();
    const { TUNNEL_MTU: tunnelMtu } = config;
    await this.#spool.append([
      { type: 'node.started', at, data: { softwareVersion: SOFTWARE_VERSION, listen, tunnelMtu } },
    ]);
    this.#failures.start();
    await this.#blocks.start();
    this.#publisher.start();
    this.#credentials.start();
    this.#presence.start();
    this.#link.start();
    this.#log.info({ listen, tunnelMtu }, 'node is up');
  }

  /** Ends the tunnels, publishes what is left, and stops. What is not published stays in the spool. */
  async stop(): Promise<void> {
    await this.#recordStop('node.draining');
    this.#admission.drain();
    await this.#drain();
    await this.#admission.settle();
    await this.#windows.settle();
    await this.#failures.stop();
    await this.#recordStop('node.stopped');
    this.#presence.stop();
    this.#blocks.stop();
    this.#credentials.stop();
    await this.#publisher.stop(PUBLISH_TIMEOUT_MS);
    await this.close();
  }

  /** A disk that refuses is no reason to leave without goodbyes. */
  async #recordStop(type: 'node.draining' | 'node.stopped'): Promise<void> {
    try {
      await this.#spool.append([{ type, at: new Date().toISOString(), data: { reason: 'asked to stop' } }]);
    } catch (error) {
      this.#log.error({ err: error, type }, 'the stop cannot be recorded');
    }
  }

  /** Releases everything at once, without goodbyes. */
  async close(): Promise<void> {
    this.#thread?.post({ type: 'stop' });
    const ended = this.#thread?.ended.catch((error: unknown) => {
      this.#log.error({ err: error }, 'the packet thread failed');
    });
    await Promise.race([ended, delay(THREAD_TIMEOUT_MS, undefined, { ref: false })]);
    await this.#link.close();
    await this.#http?.close();
    this.#database.close();
  }

  async #startThread(): Promise<string> {
    const config = this.#config;
    const options: ServerThreadOptions = {
      listen: config.LISTEN,
      certPath: config.TLS_CERT,
      keyPath: config.TLS_KEY,
      clientCaPath: config.CLIENT_CA,
      tunName: config.TUN_NAME,
      tunnelMtu: config.TUNNEL_MTU,
      tunOffload: config.TUN_OFFLOAD,
      advertiseRoutes: config.ADVERTISE_ROUTES,
      maxConnections: config.MAX_CONNECTIONS,
      retryKey: randomBytes(RETRY_KEY_BYTES),
      trafficWindowMs: config.TRAFFIC_WINDOW_MS,
    };
    const ready = new Promise<string>((resolve) => {
      const entry = new URL('./tunnel/server-thread.ts', import.meta.url);
      this.#thread = new PacketThread(entry, options, (report: ServerThreadReport) => {
        if (report.type === 'ready') resolve(report.listen);
        this.#onReport(report);
      });
      this.#thread.ended.catch((error: unknown) => this.#onFatal(error as Error));
    });
    return Promise.race([ready, this.failed]);
  }

  #onReport(report: ServerThreadReport): void {
    switch (report.type) {
      case 'ready':
        this.#threadReady = true;
        return;
      case 'request':
        void this.#admit(report);
        return;
      case 'failed':
        this.#connectionFailed({ ...report, clientId: null });
        return;
      case 'closed':
        this.#windows.forget(report.connectionId);
        this.#metrics.observeTraffic([report]);
        this.#metrics.forgetConnection(report.connectionId);
        void this.#admission.closed(report);
        return;
      case 'window':
        this.#endWindow(report);
        return;
      case 'blockChanged':
        this.#blockChanged(report);
        return;
      case 'coreMessage':
        this.#log.warn({ message: report.message }, 'the QUIC core says');
        return;
      case 'coreAborted':
        this.#log.error(
          { message: report.message },
          'a QUIC core aborted and was replaced; its clients have to come back',
        );
        return;
      case 'drained':
        this.#onDrained();
        return;
      case 'fatal':
        this.#threadReady = false;
        this.#onFatal(new CodedError(report.code, report.message));
        return;
      default:
        report satisfies never;
    }
  }

  async #admit(request: TunnelRequest): Promise<void> {
    try {
      const { answer, failure } = await this.#admission.decide(request);
      if (failure !== undefined) this.#connectionFailed(failure);
      this.#thread?.post(answer);
      this.#blocks.nudge();
    } catch (error) {
      this.#log.error({ err: error }, 'a request cannot be decided');
      const { requestId, remoteAddress } = request;
      const reason = 'the request cannot be decided';
      this.#connectionFailed({ remoteAddress, clientId: null, status: 500, reason, errorType: 'connection' });
      this.#thread?.post({ type: 'reject', requestId, status: 500 });
    }
  }

  #endWindow({ connections, errors, drops, quic }: Extract<ServerThreadReport, { type: 'window' }>): void {
    this.#quic = quic;
    this.#metrics.observeTraffic(connections);
    this.#metrics.observeDrops(drops);
    this.#windows.record(new Date(), connections, { errors, drops }).catch((error: unknown) => {
      this.#log.warn({ err: error }, 'a traffic window waits for room in the spool');
    });
  }

  #connectionFailed({ remoteAddress, clientId, status, reason, errorType }: ConnectionFailure): void {
    this.#metrics.connectionFailed(status);
    this.#failures.report({ remoteAddress, clientId, status, reason, errorType });
  }

  #revoke(clientId: string): void {
    for (const connectionId of this.#admission.connectionsOf(clientId)) {
      this.#close(connectionId, 'revoked', 'the client was revoked');
    }
  }

  #addBlock(block: TunnelBlock): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#blocksToCome.set(block.block, (problem) => {
        this.#blocksToCome.delete(block.block);
        if (problem === null) resolve();
        else reject(new CodedError('BLOCK_SETUP_FAILED', problem));
      });
      this.#thread?.post({ type: 'addBlock', block });
    });
  }

  #blockChanged({ change, block, problem }: Extract<ServerThreadReport, { type: 'blockChanged' }>): void {
    if (change === 'added') this.#blocksToCome.get(block)?.(problem);
    else if (problem !== null) this.#log.warn({ block, problem }, 'a lost address block is not cleared away');
  }

  #close(connectionId: string, reason: CloseReason, detail: string): void {
    if (this.#admission.cancel(connectionId, reason)) return;
    this.#thread?.post({ type: 'close', connectionId, reason, detail });
  }

  async #drain(): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, DRAIN_TIMEOUT_MS);
      this.#onDrained = () => {
        clearTimeout(timer);
        resolve();
      };
      this.#thread?.post({ type: 'drain' });
    });
  }

  #notReady(): string[] {
    const missing: string[] = [];
    if (!this.#threadReady) missing.push('packet thread');
    if (!this.#credentials.ready) missing.push('credentials');
    if (this.#blocks.blocks.length === 0) missing.push('address blocks');
    return missing;
  }
}

function tunnelBlock(poolBlock: PoolBlock): TunnelBlock {
  return { block: formatPrefix(poolBlock.block), nodeAddress: formatAddress(nodeAddress(poolBlock)) };
}
