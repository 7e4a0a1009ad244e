import { createHash, randomBytes } from 'node:crypto';
import { AddressBook } from '../../../data-plane/address/address-book.ts';
import { BlockClient } from '../../../data-plane/address/block-client.ts';
import { BlockLeases } from '../../../data-plane/address/block-leases.ts';
import { monotonicMs } from '../../../data-plane/address/boot-clock.ts';
import { Admission } from '../../../data-plane/admission.ts';
import { NatsLink } from '../../../data-plane/control-link/nats-link.ts';
import { PresenceSender } from '../../../data-plane/control-link/presence.ts';
import { NodeDatabase } from '../../../data-plane/state/node-database.ts';
import { StaticAddresses } from '../../../data-plane/static-addresses/static-addresses.ts';
import { FailureReporter } from '../../../data-plane/telemetry/failure-reporter.ts';
import { EventPublisher, type PublisherStats } from '../../../data-plane/telemetry/publisher.ts';
import { Spool, type SpoolOptions } from '../../../data-plane/telemetry/spool.ts';
import { type ConnectionSnapshot, TrafficWindows } from '../../../data-plane/telemetry/traffic-windows.ts';
import type { CloseReason } from '../../../shared/events/node-events.ts';
import type { TrafficTotals } from '../../../shared/events/traffic-columns.ts';
import { parseAddress } from '../../../shared/ip/address.ts';
import { DEFAULT_POOL } from '../../../shared/ip/block.ts';
import { parsePrefix } from '../../../shared/ip/prefix.ts';
import { createLogger, type Logger } from '../../../shared/log/logger.ts';
import { nodeInbox } from '../../../shared/nats/node-permissions.ts';
import { AcceptedEvents } from './accepted-events.ts';
import { LoadDriver, type SimulatedLoad } from './simulated-load.ts';

const TUNNEL_MTU = 1400;
const PUBLISH_TIMEOUT_MS = 5_000;
const NO_ERRORS = { errors: { packet: 0, other: 0 }, drops: {} };

export interface SimulatedNodeOptions {
  readonly id: string;
  /** As a node's own user, or as the control plane's. */
  readonly natsUrl: string;
  readonly stateDir: string;
  /** Whose connections it has, in turn. */
  readonly clients: readonly string[];
  /** What it does by itself; without it, it does what its methods say. */
  readonly load?: SimulatedLoad;
  /** Where what it accepts is kept; several lives of a node, and several nodes, may share one. */
  readonly accepted?: AcceptedEvents;
  /** Clients' own addresses, by client. */
  readonly ownAddresses?: Readonly<Record<string, readonly string[]>>;
  readonly spool?: Omit<SpoolOptions, 'node' | 'incarnation'>;
  readonly log?: Logger;
}

interface SimulatedConnection {
  readonly connectionId: string;
  readonly clientId: string;
  readonly addresses: readonly string[];
  readonly openedAt: number;
  /** Whose windows have it. */
  readonly shard: number;
  /** Of itself alone, so that connections differ. */
  readonly pace: number;
  totals: TrafficTotals;
}

/**
 * A node without tunnels, of the real parts of the data plane: its state on disk, addresses, admission, spool, publisher, presence
 * and link to NATS. To the control plane it is a node like any other. Connections move made-up traffic; all else is true. A thousand of
 * them run in one process.
 */
export class SimulatedNode {
  readonly id: string;
  readonly accepted: AcceptedEvents;
  readonly #clients: readonly string[];
  readonly #database: NodeDatabase;
  readonly #spool: Spool;
  readonly #link: NatsLink;
  readonly #publisher: EventPublisher;
  readonly #presence: PresenceSender;
  readonly #blocks: BlockClient;
  readonly #statics: StaticAddresses;
  readonly #admission: Admission;
  readonly #failures: FailureReporter;
  /** By shard. */
  readonly #windows: readonly TrafficWindows[];
  readonly #load: LoadDriver | undefined;
  readonly #connections = new Map<string, SimulatedConnection>();
  readonly #openings = new Set<Promise<unknown>>();
  readonly #totals: Record<keyof TrafficTotals, number> = { bytesIn: 0, bytesOut: 0, packetsIn: 0, packetsOut: 0 };
  #requests = 0;
  #refusals = 0;

  /** Opens the state directory, which may hold the state of an earlier life. Throws ConfigError or StateError. */
  constructor(options: SimulatedNodeOptions) {
    const { id, natsUrl, stateDir, clients, load, accepted, ownAddresses, spool, log } = options;
    const logger = log ?? createLogger(`simulated ${id}`, process.env.LOG_LEVEL ?? 'silent');
    this.id = id;
    this.#clients = clients;
    this.accepted = accepted ?? new AcceptedEvents();
    this.#database = new NodeDatabase(stateDir);
    const incarnation = randomBytes(16).toString('hex');
    this.#spool = new Spool(this.#database, { ...spool, node: id, incarnation });
    this.#spool.onAppended(() => this.accepted.note(id, this.#spool.epoch, this.#spool.lastSeq));
    this.#link = new NatsLink({ url: natsUrl, name: `node ${id}`, inboxPrefix: nodeInbox(id), log: logger });
    const common = { link: this.#link, log: logger };
    this.#publisher = new EventPublisher({ ...common, spool: this.#spool });
    this.#presence = new PresenceSender({ ...common, node: id, presence: () => this.#publisher.presence });
    const leases = new BlockLeases();
    const book = new AddressBook({
      now: monotonicMs,
      mayAssign: ({ block }) => leases.isAssignable(block, monotonicMs()),
      stored: AddressBook.load(this.#database.reader),
    });
    this.#blocks = new BlockClient({
      ...common,
      node: id,
      database: this.#database,
      leases,
      book,
      shards: 1,
      onBlockGranted: () => undefined,
      onBlockLost: (_held, connectionIds) => {
        for (const connectionId of connectionIds) void this.close(connectionId, 'error');
      },
      onBlockClosing: (connectionIds) => {
        for (const connectionId of connectionIds) void this.close(connectionId, 'drained');
      },
    });
    this.#statics = new StaticAddresses({
      ...common,
      node: id,
      route: () => Promise.resolve(),
      unroute: () => undefined,
      close: (connectionId, reason) => {
        if (!this.#admission.cancel(connectionId, reason)) void this.close(connectionId, reason);
      },
    });
    this.#admission = new Admission({
      canAuthenticate: () => true,
      // Who may connect is not what it is for: a token is a client's id.
      authenticate: (token) => {
        const addresses = (ownAddresses?.[token] ?? []).map(parseAddress);
        return { clientId: token, pool: DEFAULT_POOL, addresses };
      },
      book,
      moreAddresses: (shard, pool, families) => this.#blocks.demand(shard, pool, families),
      statics: this.#statics,
      nodeAddressIn: (_shard, family) => this.#blocks.nodeAddressIn(0, family),
      spool: this.#spool,
      tunnelMtu: TUNNEL_MTU,
      maxTunnelsPerClient: Number.MAX_SAFE_INTEGER,
      advertiseRoutes: ['0.0.0.0/0', '::/0'].map(parsePrefix),
      resolve: () => Promise.resolve([]),
      log: logger,
    });
    this.#failures = new FailureReporter({ spool: this.#spool, log: logger });
    const startedAt = new Date();
    this.#windows = Array.from(
      { length: load?.shards ?? 1 },
      () => new TrafficWindows({ append: (events) => this.#spool.append(events), startedAt }),
    );
    this.#load = load && new LoadDriver(this, load);
  }

  get epoch(): string {
    return this.#spool.epoch;
  }

  /** The last event that is on disk. */
  get lastSeq(): number {
    return this.#spool.lastSeq;
  }

  /** The last event that it knows to be committed. */
  get appliedSeq(): number {
    return this.#spool.appliedSeq;
  }

  /** Events that it does not know to be committed. */
  get depth(): number {
    return this.#spool.depth;
  }

  /** Connections that are open or about to be. */
  get size(): number {
    return this.#connections.size + this.#openings.size;
  }

  /** Whether it has addresses to give. */
  get isSupplied(): boolean {
    return this.#blocks.areSupplied;
  }

  get isConnectedToNats(): boolean {
    return this.#link.connected;
  }

  get publisherStats(): PublisherStats {
    return this.#publisher.stats;
  }

  /** Requests that were answered with anything but 200. */
  get refusals(): number {
    return this.#refusals;
  }

  /** What all connections of this life have moved, in windows and closes that the spool took and in what is still open. */
  get totals(): TrafficTotals {
    return { ...this.#totals };
  }

  async start(): Promise<void> {
    await this.#spool.append([
      {
        type: 'node.started',
        at: new Date().toISOString(),
        data: { softwareVersion: 'simulated', listen: '0.0.0.0:4433', tunnelMtu: TUNNEL_MTU },
      },
    ]);
    this.#failures.start();
    await this.#blocks.start();
    this.#statics.start();
    this.#publisher.start();
    this.#presence.start();
    this.#link.start();
    this.#load?.start();
  }

  /** A client's request, of the next one where none is named. Undefined when it is refused, e.g. for want of an address. */
  open(clientId?: string): Promise<string | undefined> {
    const opening = this.#open(clientId).finally(() => this.#openings.delete(opening));
    this.#openings.add(opening);
    return opening;
  }

  async #open(clientId: string | undefined): Promise<string | undefined> {
    const number = this.#requests++;
    const token = clientId ?? this.#clients[number % this.#clients.length] ?? null;
    const { answer, failure } = await this.#admission.decide({
      type: 'request',
      shard: 0,
      requestId: number,
      transport: 'http3',
      remoteAddress: `203.0.113.${1 + (number % 254)}`,
      remotePort: 1024 + (number % 60_000),
      token,
      target: { kind: 'any' },
      protocol: 'any',
    });
    this.#blocks.nudge();
    if (failure !== undefined) this.#failures.report(failure);
    if (answer.type === 'reject') {
      this.#refusals++;
      return undefined;
    }
    const { connectionId, clientId: owner } = answer;
    const addresses = answer.addresses.map(({ address }) => address);
    const pace = 1 + (createHash('sha1').update(connectionId).digest()[0] ?? 0);
    const totals = { bytesIn: 0, bytesOut: 0, packetsIn: 0, packetsOut: 0 };
    const openedAt = performance.now();
    const shard = number % this.#windows.length;
    this.#connections.set(connectionId, { connectionId, clientId: owner, addresses, openedAt, shard, pace, totals });
    return connectionId;
  }

  /** Of an open connection; none of one that has ended. */
  addressesOf(connectionId: string): readonly string[] {
    return this.#connections.get(connectionId)?.addresses ?? [];
  }

  /** Ends a connection, which moved a last bit after its last window; its close event has the true totals. */
  async close(connectionId: string, reason: CloseReason = 'client'): Promise<void> {
    const connection = this.#connections.get(connectionId);
    if (connection === undefined) return;
    this.#move(connection);
    this.#connections.delete(connectionId);
    this.#windows[connection.shard]?.forget(connectionId);
    const { clientId, totals, openedAt } = connection;
    const durationMs = Math.round(performance.now() - openedAt);
    await this.#admission.closed({ type: 'closed', connectionId, clientId, reason, detail: '', durationMs, totals });
  }

  async closeOldest(): Promise<void> {
    for (const connectionId of this.#connections.keys()) {
      await this.close(connectionId);
      return;
    }
  }

  /** The end of a traffic window: every connection has moved something. What the spool refuses is in the next one. */
  writeWindow(): void {
    const snapshots = this.#windows.map((): ConnectionSnapshot[] => []);
    for (const connection of this.#connections.values()) {
      this.#move(connection);
      const { connectionId, clientId, totals, pace, shard } = connection;
      const latenciesMs = [pace / 8, pace / 4, pace / 2];
      const probe = { sent: 4, answered: latenciesMs.length, latenciesMs };
      snapshots[shard]?.push({ connectionId, clientId, totals, rttMs: pace / 10, probe });
    }
    const at = new Date();
    // A window that waits for room is no error.
    for (const [shard, windows] of this.#windows.entries())
      windows.record(at, snapshots[shard] ?? [], NO_ERRORS).catch(() => undefined);
  }

  /** Ends what the load does by itself, and all connections; the node goes on publishing. */
  async endLoad(): Promise<void> {
    this.#load?.stop();
    await this.#closeAll('client');
    await this.#settle();
  }

  /** As SIGTERM to a node: connections are drained, and what can be published is; the rest stays in the spool. */
  async stop(): Promise<void> {
    this.#load?.stop();
    const at = new Date().toISOString();
    await this.#spool.append([{ type: 'node.draining', at, data: { reason: 'asked to stop' } }]);
    this.#admission.drain();
    await this.#closeAll('drained');
    await this.#settle();
    await this.#statics.stop();
    await this.#failures.stop();
    await this.#spool.append([{ type: 'node.stopped', at, data: { reason: 'asked to stop' } }]);
    await this.#release(PUBLISH_TIMEOUT_MS);
  }

  /** As SIGKILL: no goodbye. The state directory is free for the next life. */
  async abandon(): Promise<void> {
    this.#load?.stop();
    this.#admission.drain();
    await this.#failures.stop();
    await this.#release(0);
  }

  /** Also what is about to open. */
  async #closeAll(reason: CloseReason): Promise<void> {
    await Promise.allSettled(this.#openings);
    await Promise.all([...this.#connections.keys()].map((connectionId) => this.close(connectionId, reason)));
  }

  async #release(publishTimeoutMs: number): Promise<void> {
    this.#presence.stop();
    this.#statics.close();
    this.#blocks.stop();
    await this.#publisher.stop(publishTimeoutMs);
    await this.#link.close();
    this.#database.close();
  }

  async #settle(): Promise<void> {
    await this.#admission.settle();
    await Promise.all(this.#windows.map((windows) => windows.settle()));
  }

  #move(connection: SimulatedConnection): void {
    const { pace, totals } = connection;
    const moved: TrafficTotals = { bytesIn: 100 * pace, bytesOut: 1_000 * pace, packetsIn: pace, packetsOut: 2 * pace };
    connection.totals = {
      bytesIn: totals.bytesIn + moved.bytesIn,
      bytesOut: totals.bytesOut + moved.bytesOut,
      packetsIn: totals.packetsIn + moved.packetsIn,
      packetsOut: totals.packetsOut + moved.packetsOut,
    };
    for (const name of ['bytesIn', 'bytesOut', 'packetsIn', 'packetsOut'] as const) this.#totals[name] += moved[name];
  }
}
