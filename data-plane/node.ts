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
import { Admission } from './admission.ts';
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
import { StaticAddresses } from './static-addresses/static-addresses.ts';
import type { ConnectionFailure } from './telemetry/failure-folding.ts';
import { NodeRecord } from './telemetry/node-record.ts';
import type { TlsIdentity } from './tls/tls-identity.ts';
import { TlsReloader } from './tls/tls-reloader.ts';
import { NO_DROPS } from './tunnel/drop-counters.ts';
import type { TunnelBlock } from './tunnel/tunnel-messages.ts';
import { type RequestOrigin, TunnelRequests } from './tunnel-requests.ts';
import { WebServices } from './web-services.ts';

/** One data-plane node: its main thread, which decides and records, and the packet threads that it starts. */
export class Node {
  readonly #config: NodeConfig;
  readonly #log: Logger;
  readonly #database: NodeDatabase;
  readonly #link: NatsLink;
  readonly #record: NodeRecord;
  readonly #presence: PresenceSender;
  readonly #credentials: CredentialStore;
  readonly #book: AddressBook;
  readonly #blocks: BlockClient;
  readonly #statics: StaticAddresses;
  readonly #admission: Admission;
  readonly #shards: Shards;
  readonly #metrics: NodeMetrics;
  readonly #tls: TlsReloader;
  readonly #requests: TunnelRequests;
  readonly #web: WebServices;
  #http: NodeHttpServer | undefined;
  #draining = false;
  /** Of a drain: nobody is left, or nobody is waited for any more. */
  readonly #departed = Promise.withResolvers<void>();

  /** Opens the state directory. Throws ConfigError or StateError. */
  constructor(config: NodeConfig, identity: TlsIdentity, log: Logger) {
    const { NODE_ID: node } = config;
    this.#config = config;
    this.#log = log;
    this.#shards = new Shards({ config, identity, log, onReport: (shard, report) => this.#onReport(shard, report) });
    this.#database = new NodeDatabase(config.STATE_DIR);
    const database = this.#database;
    this.#link = new NatsLink({ url: config.NATS_URL, name: `node ${node}`, inboxPrefix: nodeInbox(node), log });
    const link = this.#link;
    this.#record = new NodeRecord({
      node,
      shards: config.SHARDS,
      database,
      link,
      spoolLimits: { maxEvents: config.SPOOL_MAX_EVENTS, maxBytes: config.SPOOL_MAX_BYTES },
      log,
    });
    const { spool, publisher } = this.#record;
    this.#presence = new PresenceSender({ node, link, log, presence: () => publisher.presence });
    this.#credentials = new CredentialStore({
      link,
      database,
      log,
      onRevoked: (clientId) => this.#revoke(clientId),
      onOwned: (clientId, addresses) => this.#statics.owned(clientId, addresses),
    });
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
      onBlockClosing: (connections) => {
        for (const connectionId of connections) this.#close(connectionId, 'drained', 'the address pool is retired');
      },
    });
    this.#statics = new StaticAddresses({
      node,
      link,
      log,
      route: (shard, block) => this.#shards.addBlock(shard, { block, nodeAddress: null }),
      unroute: (shard, block) => this.#shards.removeBlock(shard, { block, nodeAddress: null }),
      close: (connectionId, reason, detail) => this.#close(connectionId, reason, detail),
    });
    this.#admission = new Admission({
      canAuthenticate: () => this.#credentials.ready,
      authenticate: (token) => this.#credentials.authenticate(token),
      book: this.#book,
      moreAddresses: (shard, pool, families) => this.#blocks.demand(shard, pool, families),
      statics: this.#statics,
      nodeAddressIn: (shard, family) => this.#blocks.nodeAddressIn(shard, family),
      spool,
      tunnelMtu: config.TUNNEL_MTU,
      maxTunnelsPerClient: config.MAX_TUNNELS_PER_CLIENT,
      advertiseRoutes: config.ADVERTISE_ROUTES.map(parsePrefix),
      resolve: resolveHostname,
      log,
    });
    this.#requests = new TunnelRequests({
      admission: this.#admission,
      log,
      onFailed: (failure) => this.#connectionFailed(failure),
      onAnswered: () => {
        this.#blocks.nudge();
        // One that was about to open when the drain began never does.
        this.#lookForTheLast();
      },
    });
    this.#web = new WebServices({
      config,
      identity: () => this.#tls.identity,
      log,
      onRequest: (request, gateway) =>
        void this.#requests.admit({ ...request, shard: this.#chooseShard(request.token) }, gateway),
      onFailed: (failure) => this.#connectionFailed({ ...failure, clientId: null }),
      post: (command) => this.#postTo(command.connectionId, command),
    });
    this.#tls = new TlsReloader({
      files: config,
      identity,
      log,
      onRenewed: (renewed) => {
        this.#shards.renew(renewed);
        this.#web.renew(renewed);
      },
    });
    this.#metrics = new NodeMetrics({
      spool: () => spool,
      publisher: () => this.#record.publisher.stats,
      activeConnections: (transport) => this.#admission.count(transport),
      blocks: () => this.#blocks.blocks,
      addresses: (family) => this.#book.count(family),
      natsConnected: () => this.#link.connected,
      quic: () => this.#shards.quic,
      shards: () =>
        this.#shards.figures.map((figures, shard) => ({ ...figures, tunnels: this.#admission.sizeOf(shard) })),
      web: () => this.#web.states,
      webTransport: () => this.#web.carriers,
      tls: () => this.#tls.state,
      limits: () =>
        sumOfCounts(NO_LIMITS_EXCEEDED, [this.#shards.limits, ...this.#web.states.map(({ limits }) => limits)]),
      drops: () => sumOfCounts(NO_DROPS, [this.#shards.drops, ...this.#web.states.map(({ drops }) => drops)]),
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
    const { http2Listen, webTransportListen } = await Promise.race([this.#web.start(listen), this.failed]);
    const { TUNNEL_MTU: tunnelMtu, SHARDS: shards } = config;
    await this.#record.started(listen, tunnelMtu);
    this.#tls.start();
    await this.#blocks.start();
    this.#statics.start();
    this.#record.publisher.start();
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
    await this.#record.stopping('node.draining');
    this.#admission.drain();
    this.#shards.announceDrain();
    this.#web.announceDrain();
    await this.#untilDeparted();
    await Promise.all([this.#shards.drain(), this.#web.drain()]);
    await this.#settle();
    await this.#record.stopping('node.stopped');
    await this.#statics.stop();
    this.#presence.stop();
    this.#credentials.stop();
    await this.#record.stop();
    await this.#blocks.giveBackAll();
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

  /** Ends what still runs and releases everything; what ended so is in the spool and published by the next process. */
  async close(): Promise<void> {
    this.#tls.stop();
    this.#admission.drain();
    this.#web.stop();
    await this.#shards.stop();
    await this.#settle();
    await this.#link.close();
    await this.#http?.close();
    this.#database.close();
  }

  /** What has ended, and the windows until then, is in the spool, unless the disk refuses. */
  async #settle(): Promise<void> {
    await this.#admission.settle();
    await this.#record.settle();
  }

  /** For clients that no shard's socket has received: where the client's last address waits, or else where there are the fewest tunnels. */
  #chooseShard(token: string | null): number {
    const client = token === null ? undefined : this.#credentials.authenticate(token);
    const last = client && this.#book.lastShardOf(client.clientId, client.pool);
    if (last !== undefined) return last;
    const sizes = Array.from({ length: this.#shards.count }, (_, shard) => this.#admission.sizeOf(shard));
    return sizes.indexOf(Math.min(...sizes));
  }

  #onReport(shard: number, report: ShardReport): void {
    switch (report.type) {
      case 'request':
        void this.#requests.admit({ ...report, shard }, this.#originOf(shard));
        return;
      case 'failed':
        this.#connectionFailed({ ...report, clientId: null });
        return;
      case 'closed':
        this.#record.forget(shard, report.connectionId);
        this.#metrics.observeTraffic([report]);
        this.#metrics.forgetConnection(report.connectionId);
        this.#web.closed(report.connectionId);
        void this.#admission.closed(report);
        this.#lookForTheLast();
        return;
      case 'channelAborted':
        this.#web.abort(report.connectionId, report.errorCode);
        return;
      case 'window':
        this.#endWindow(shard, report);
        return;
      default:
        report satisfies never;
    }
  }

  #originOf(shard: number): RequestOrigin {
    return {
      accept: (answer) => void this.#shards.post(shard, answer),
      reject: (answer) => void this.#shards.post(shard, answer),
    };
  }

  #lookForTheLast(): void {
    if (this.#draining && this.#admission.size === 0) this.#departed.resolve();
  }

  #endWindow(shard: number, { connections, errors, drops }: Extract<ShardReport, { type: 'window' }>): void {
    this.#metrics.observeTraffic(connections);
    this.#record.window(shard, connections, { errors, drops });
  }

  #connectionFailed({ remoteAddress, clientId, status, reason, errorType }: ConnectionFailure): void {
    this.#metrics.connectionFailed(status);
    this.#record.failed({ remoteAddress, clientId, status, reason, errorType });
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
