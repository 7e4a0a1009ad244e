import { randomBytes } from 'node:crypto';
import { describeError } from '../shared/errors.ts';
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
import { sumOfCounts } from './counts.ts';
import { CredentialStore } from './credentials/credential-store.ts';
import { NO_LIMITS_EXCEEDED } from './limits.ts';
import { type NodeHttpServer, startNodeHttpServer } from './node-http/node-http-server.ts';
import { NodeMetrics } from './node-http/node-metrics.ts';
import { resolveHostname } from './resolve-hostname.ts';
import type { ShardReport } from './shards/shard.ts';
import { Shards } from './shards/shards.ts';
import { NodeDatabase } from './state/node-database.ts';
import type { ConnectionFailure } from './telemetry/failure-folding.ts';
import { FailureReporter } from './telemetry/failure-reporter.ts';
import { EventPublisher } from './telemetry/publisher.ts';
import { Spool } from './telemetry/spool.ts';
import { TrafficWindows, type TrafficWindowsOptions } from './telemetry/traffic-windows.ts';
import type { TlsIdentity } from './tls/tls-identity.ts';
import { TlsReloader } from './tls/tls-reloader.ts';
import { NO_DROPS } from './tunnel/drop-counters.ts';
import type { ServerThreadCommand, TunnelBlock } from './tunnel/tunnel-messages.ts';
import { WebGateway } from './web-thread/web-gateway.ts';
import type { WebThreadOptions } from './web-thread/web-messages.ts';
import { type WebTransportCarrier, webTransportCarriers } from './webtransport/webtransport-carriers.ts';

/** After a stop was asked for: what the last events' way to NATS may take. */
const PUBLISH_TIMEOUT_MS = 5_000;

export const SOFTWARE_VERSION = '0.1.0';

/** Where a request came from, and its answer goes. */
interface RequestOrigin {
  /** May throw what keeps the tunnel from being opened. */
  accept(answer: Extract<ServerThreadCommand, { type: 'accept' }>): void;
  reject(answer: Extract<ServerThreadCommand, { type: 'reject' }>): void;
}

/** One data-plane node: its main thread, which decides and records, and the packet threads that it starts. */
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
  /** By shard. */
  readonly #windows: readonly TrafficWindows[];
  readonly #shards: Shards;
  readonly #metrics: NodeMetrics;
  readonly #tls: TlsReloader;
  /** HTTP/2, one for each service that is not off. */
  readonly #webs: WebGateway[] = [];
  #webTransport: readonly WebTransportCarrier[] = [];
  #http: NodeHttpServer | undefined;
  #draining = false;
  /** Of a drain: nobody is left, or nobody is waited for any more. */
  readonly #departed = Promise.withResolvers<void>();

  /** Opens the state directory. Throws StateError. */
  constructor(config: NodeConfig, identity: TlsIdentity, log: Logger) {
    const { NODE_ID: node } = config;
    this.#config = config;
    this.#log = log;
    this.#shards = new Shards({ config, identity, log, onReport: (shard, report) => this.#onReport(shard, report) });
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
      shards: config.SHARDS,
      onBlockGranted: (held) => this.#shards.addBlock(held.shard, tunnelBlock(held)),
      onBlockLost: (held, connections) => {
        for (const connectionId of connections) this.#close(connectionId, 'error', 'the address block was lost');
        this.#shards.removeBlock(held.shard, tunnelBlock(held));
      },
    });
    this.#admission = new Admission({
      canAuthenticate: () => this.#credentials.ready,
      authenticate: (token) => this.#credentials.authenticate(token),
      book: this.#book,
      moreAddresses: (shard) => this.#blocks.demand(shard),
      spool: this.#spool,
      tunnelMtu: config.TUNNEL_MTU,
      maxTunnelsPerClient: config.MAX_TUNNELS_PER_CLIENT,
      advertiseRoutes: config.ADVERTISE_ROUTES.map(parsePrefix),
      resolve: resolveHostname,
      log,
    });
    this.#failures = new FailureReporter({ spool: this.#spool, log });
    const append: TrafficWindowsOptions['append'] = (events) => this.#spool.append(events);
    const startedAt = new Date();
    this.#windows = Array.from({ length: config.SHARDS }, () => new TrafficWindows({ append, startedAt }));
    this.#tls = new TlsReloader({
      files: config,
      identity,
      log,
      onRenewed: (renewed) => {
        this.#shards.renew(renewed);
        for (const web of this.#webs) web.renew(renewed);
      },
    });
    this.#metrics = new NodeMetrics({
      spool: () => this.#spool,
      publisher: () => this.#publisher.stats,
      activeConnections: (transport) => this.#admission.count(transport),
      blocks: () => this.#blocks.blocks,
      addresses: (family) => this.#book.count(family),
      natsConnected: () => this.#link.connected,
      quic: () => this.#shards.quic,
      shards: () =>
        this.#shards.figures.map((figures, shard) => ({ ...figures, tunnels: this.#admission.sizeOf(shard) })),
      web: () => this.#webs.map(({ state }) => state),
      webTransport: () => this.#webTransport,
      tls: () => this.#tls.state,
      limits: () =>
        sumOfCounts(NO_LIMITS_EXCEEDED, [this.#shards.limits, ...this.#webs.map(({ state }) => state.limits)]),
      drops: () => sumOfCounts(NO_DROPS, [this.#shards.drops, ...this.#webs.map(({ state }) => state.drops)]),
    });
  }

  /** Rejects with what the node cannot go on without. */
  get failed(): Promise<never> {
    return this.#shards.failed;
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
    const listen = await this.#shards.start();
    const { HTTP2_LISTEN, WEBTRANSPORT_LISTEN } = config;
    // TCP beside the UDP of HTTP/3, on the same port unless the configuration says otherwise.
    const http2Listen = await this.#startWeb('connect-ip', HTTP2_LISTEN || listen);
    const webTransportListen = await this.#startWeb('webtransport', WEBTRANSPORT_LISTEN);
    if (webTransportListen === 'off') this.#webTransportLoaded(null);
    const at = new Date().toISOString();
    const { TUNNEL_MTU: tunnelMtu, SHARDS: shards } = config;
    await this.#spool.append([
      { type: 'node.started', at, data: { softwareVersion: SOFTWARE_VERSION, listen, tunnelMtu } },
    ]);
    this.#failures.start();
    this.#tls.start();
    await this.#blocks.start();
    this.#publisher.start();
    this.#credentials.start();
    this.#presence.start();
    this.#link.start();
    this.#log.info({ listen, http2Listen, webTransportListen, tunnelMtu, shards }, 'node is up');
  }

  /** Looks for a renewed certificate now, instead of within seconds. */
  reloadCertificate(): void {
    this.#tls.check(true);
  }

  /**
   * Refuses new tunnels, and ends those that are open after DRAIN_SECONDS; publishes what is left, and stops. What is not published
   * stays in the spool.
   */
  async stop(): Promise<void> {
    this.#draining = true;
    await this.#recordStop('node.draining');
    this.#admission.drain();
    this.#shards.announceDrain();
    for (const web of this.#webs) web.announceDrain();
    await this.#untilDeparted();
    await Promise.all([this.#shards.drain(), ...this.#webs.map((web) => web.drain())]);
    await this.#settle();
    await this.#failures.stop();
    await this.#recordStop('node.stopped');
    this.#presence.stop();
    this.#blocks.stop();
    this.#credentials.stop();
    await this.#publisher.stop(PUBLISH_TIMEOUT_MS);
    await this.close();
  }

  /** Ends what a drain leaves open, at once. */
  endDrain(): void {
    this.#departed.resolve();
  }

  async #untilDeparted(): Promise<void> {
    if (this.#admission.size === 0) return;
    const deadline = setTimeout(this.#departed.resolve, this.#config.DRAIN_SECONDS * 1_000);
    await this.#departed.promise;
    clearTimeout(deadline);
  }

  /** A disk that refuses is no reason to leave without goodbyes. */
  async #recordStop(type: 'node.draining' | 'node.stopped'): Promise<void> {
    try {
      await this.#spool.append([{ type, at: new Date().toISOString(), data: { reason: 'asked to stop' } }]);
    } catch (error) {
      this.#log.error({ err: error, type }, 'the stop cannot be recorded');
    }
  }

  /** Ends what still runs and releases everything; what ended so is in the spool and published by the next process. */
  async close(): Promise<void> {
    this.#tls.stop();
    this.#admission.drain();
    for (const web of this.#webs) web.stop();
    await this.#shards.stop();
    await this.#settle();
    await this.#link.close();
    await this.#http?.close();
    this.#database.close();
  }

  /** What has ended, and the windows until then, is in the spool, unless the disk refuses. */
  async #settle(): Promise<void> {
    await this.#admission.settle();
    await Promise.all(this.#windows.map((windows) => windows.settle()));
  }

  /** Resolves with the TCP address, or 'off'. Each service has a thread of its own, so that one that fails costs only its own clients. */
  async #startWeb(service: WebThreadOptions['service'], listen: string): Promise<string> {
    if (listen === 'off') return listen;
    const { MAX_CONNECTIONS: maxConnections, AUTHORITIES: authorities } = this.#config;
    const web = new WebGateway({
      thread: { service, listen, identity: this.#tls.identity, authorities, maxConnections },
      log: this.#log,
      onRequest: (request) => void this.#admit({ ...request, shard: this.#chooseShard(request.token) }, web),
      onFailed: (failure) => this.#connectionFailed({ ...failure, clientId: null }),
      onWebTransportLoaded: (http3Problem) => {
        this.#webTransportLoaded(http3Problem);
      },
      post: (command) => this.#postTo(command.connectionId, command),
    });
    this.#webs.push(web);
    return Promise.race([web.start(), this.failed]);
  }

  #webTransportLoaded(packageProblem: string | null): void {
    const { LISTEN, WEBTRANSPORT_LISTEN } = this.#config;
    this.#webTransport = webTransportCarriers(LISTEN, WEBTRANSPORT_LISTEN, packageProblem);
    this.#log.info({ carriers: this.#webTransport }, 'what carries WebTransport sessions');
  }

  /** For clients that no shard's socket has received: where the client's last address waits, or else where there are the fewest tunnels. */
  #chooseShard(token: string | null): number {
    const client = token === null ? undefined : this.#credentials.authenticate(token);
    const last = client && this.#book.lastShardOf(client.clientId);
    if (last !== undefined) return last;
    const sizes = Array.from({ length: this.#shards.count }, (_, shard) => this.#admission.sizeOf(shard));
    return sizes.indexOf(Math.min(...sizes));
  }

  #onReport(shard: number, report: ShardReport): void {
    switch (report.type) {
      case 'request':
        void this.#admit({ ...report, shard }, this.#originOf(shard));
        return;
      case 'failed':
        this.#connectionFailed({ ...report, clientId: null });
        return;
      case 'closed':
        this.#windows[shard]?.forget(report.connectionId);
        this.#metrics.observeTraffic([report]);
        this.#metrics.forgetConnection(report.connectionId);
        for (const web of this.#webs) web.closed(report.connectionId);
        void this.#admission.closed(report);
        this.#lookForTheLast();
        return;
      case 'channelAborted':
        for (const web of this.#webs) web.abort(report.connectionId, report.errorCode);
        return;
      case 'window':
        this.#endWindow(shard, report);
        return;
      default:
        report satisfies never;
    }
  }

  #originOf(shard: number): RequestOrigin {
    const post = (answer: Extract<ServerThreadCommand, { type: 'accept' | 'reject' }>) => {
      this.#shards.post(shard, answer);
    };
    return { accept: post, reject: post };
  }

  async #admit(request: TunnelRequest, origin: RequestOrigin): Promise<void> {
    try {
      const { answer, failure } = await this.#admission.decide(request);
      if (failure !== undefined) this.#connectionFailed(failure);
      if (answer.type === 'reject') origin.reject(answer);
      else this.#open(answer, origin);
      this.#blocks.nudge();
    } catch (error) {
      this.#log.error({ err: error }, 'a request cannot be decided');
      const { requestId, remoteAddress } = request;
      const reason = 'the request cannot be decided';
      this.#connectionFailed({ remoteAddress, clientId: null, status: 500, reason, errorType: 'connection' });
      origin.reject({ type: 'reject', requestId, status: 500 });
    } finally {
      // One that was about to open when the drain began never does.
      this.#lookForTheLast();
    }
  }

  #lookForTheLast(): void {
    if (this.#draining && this.#admission.size === 0) this.#departed.resolve();
  }

  /** Throws what keeps the tunnel from being opened, once its end is on its way to the record. */
  #open(answer: Extract<ServerThreadCommand, { type: 'accept' }>, origin: RequestOrigin): void {
    try {
      origin.accept(answer);
    } catch (error) {
      void this.#admission.unopened(answer, 'error', describeError(error));
      throw error;
    }
  }

  #endWindow(shard: number, { connections, errors, drops }: Extract<ShardReport, { type: 'window' }>): void {
    this.#metrics.observeTraffic(connections);
    this.#windows[shard]?.record(new Date(), connections, { errors, drops }).catch((error: unknown) => {
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

  #close(connectionId: string, reason: CloseReason, detail: string): void {
    if (this.#admission.cancel(connectionId, reason)) return;
    this.#postTo(connectionId, { type: 'close', connectionId, reason, detail });
  }

  /** To the shard of a connection; false when that has ended, or there is none any more. */
  #postTo(connectionId: string, command: Parameters<Shards['post']>[1]): boolean {
    const shard = this.#admission.shardOf(connectionId);
    return shard !== undefined && this.#shards.post(shard, command);
  }

  #notReady(): string[] {
    const missing: string[] = [];
    if (this.#draining) missing.push('the node is draining');
    if (!this.#shards.areReady) missing.push('packet thread');
    if (!this.#credentials.ready) missing.push('credentials');
    if (!this.#blocks.areSupplied) missing.push('address blocks');
    return missing;
  }
}

function tunnelBlock(poolBlock: PoolBlock): TunnelBlock {
  return { block: formatPrefix(poolBlock.block), nodeAddress: formatAddress(nodeAddress(poolBlock)) };
}
