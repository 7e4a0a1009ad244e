import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '../../shared/log/logger.ts';
import type { NodeConfig } from '../config.ts';
import { sumOfCounts } from '../counts.ts';
import { NO_HANDOFFS } from '../handoff/handoff.ts';
import { HandoffSockets } from '../handoff/handoff-sockets.ts';
import { type Limit, NO_LIMITS_EXCEEDED } from '../limits.ts';
import { NO_QUIC_STATE, type QuicServerState, sumOfQuicStates } from '../quic/quic-server-state.ts';
import { RETRY_KEY_BYTES } from '../quic/retry-token.ts';
import type { TlsIdentity } from '../tls/tls-identity.ts';
import { type DropReason, NO_DROPS } from '../tunnel/drop-counters.ts';
import type { ServerThreadOptions, TunnelBlock } from '../tunnel/tunnel-messages.ts';
import { Shard, type ShardOptions, type ShardReport } from './shard.ts';
import { tunNameOf } from './tun-names.ts';

/** What the clients' goodbyes may take once a stop was asked for. */
const DRAIN_TIMEOUT_MS = 3_000;
/** A packet thread that does not end must not keep its node from ending. */
const THREAD_TIMEOUT_MS = 3_000;

/** What the thread of a shard says of itself at the end of a window. */
export type ThreadFigures = Pick<
  Extract<ShardReport, { type: 'window' }>,
  'quic' | 'limits' | 'drops' | 'handoffs' | 'cpuSeconds'
>;

const NO_FIGURES: ThreadFigures = {
  quic: NO_QUIC_STATE,
  limits: NO_LIMITS_EXCEEDED,
  drops: NO_DROPS,
  handoffs: NO_HANDOFFS,
  cpuSeconds: 0,
};

export interface ShardsOptions {
  readonly config: NodeConfig;
  readonly identity: TlsIdentity;
  readonly log: Logger;
  readonly onReport: (shard: number, report: ShardReport) => void;
}

/**
 * The node's packet threads, by number from 0. Each has its own QUIC cores, TUN device and address blocks, and a socket on the one address of
 * the node; the kernel spreads peers over the sockets.
 */
export class Shards {
  readonly count: number;
  readonly #options: ShardsOptions;
  readonly #shards: Shard[] = [];
  /** What the last window of each shard said. */
  readonly #figures: ThreadFigures[];
  /** Undefined where there is one shard. */
  readonly #handoff: HandoffSockets | undefined;
  readonly #retryKey = randomBytes(RETRY_KEY_BYTES);
  /** Blocks that leave a shard: the next one takes them when they are gone there. */
  readonly #leaving = new Map<string, Promise<void>>();
  readonly #failed = Promise.withResolvers<never>();
  /** Rejects when a thread has failed. A node of fewer shards than it was told to have would be slow and not say why: it ends. */
  readonly failed = this.#failed.promise;

  constructor(options: ShardsOptions) {
    this.#options = options;
    this.count = options.config.SHARDS;
    this.#handoff = this.count === 1 ? undefined : new HandoffSockets(this.count);
    this.#figures = Array.from({ length: this.count }, () => NO_FIGURES);
    this.failed.catch(() => undefined);
  }

  /** Resolves with the address that is listened on. Rejects with what a thread cannot start without. */
  async start(): Promise<string> {
    const { config } = this.#options;
    // One after the other: the first one chooses the port, and their order is the same after every start.
    let listen = config.LISTEN;
    for (let shard = 0; shard < this.count; shard++) listen = await this.#start(shard, listen).listening;
    return listen;
  }

  get areReady(): boolean {
    return this.#shards.length === this.count && this.#shards.every(({ isReady }) => isReady);
  }

  /** Of all shards, as their last windows said. */
  get quic(): QuicServerState {
    return sumOfQuicStates(this.#figures.map(({ quic }) => quic));
  }

  /** How often limits were exceeded, in all shards. */
  get limits(): Record<Limit, number> {
    return sumOfCounts(
      NO_LIMITS_EXCEEDED,
      this.#figures.map(({ limits }) => limits),
    );
  }

  /** Packets dropped, in all shards. */
  get drops(): Record<DropReason, number> {
    return sumOfCounts(
      NO_DROPS,
      this.#figures.map(({ drops }) => drops),
    );
  }

  /** Of each shard, as its last window said. */
  get figures(): readonly ThreadFigures[] {
    return this.#figures;
  }

  /** A shard that is not started, or has ended, hears nothing: false then. */
  post(shard: number, command: Parameters<Shard['post']>[0]): boolean {
    return this.#shards[shard]?.post(command) ?? false;
  }

  /** New connections get this identity, those that are there keep theirs. */
  renew(identity: TlsIdentity): void {
    for (const shard of this.#shards) shard.post({ type: 'renewIdentity', identity });
  }

  /** Resolves when the block's packets reach the shard, which may have to wait for another to leave it. Rejects with BLOCK_SETUP_FAILED. */
  async addBlock(shard: number, block: TunnelBlock): Promise<void> {
    await this.#leaving.get(block.block);
    await this.#shards[shard]?.addBlock(block);
  }

  removeBlock(shard: number, block: TunnelBlock): void {
    const left = (this.#shards[shard]?.removeBlock(block) ?? Promise.resolve()).finally(() => {
      if (this.#leaving.get(block.block) === left) this.#leaving.delete(block.block);
    });
    this.#leaving.set(block.block, left);
  }

  /** Tells the clients that the node goes away; their tunnels live on, and nobody else is let in. */
  announceDrain(): void {
    for (const shard of this.#shards) shard.post({ type: 'announceDrain' });
  }

  /** Ends all tunnels; resolves when that is done, or takes too long. */
  async drain(): Promise<void> {
    const drained = Promise.all(this.#shards.map((shard) => shard.drain()));
    await Promise.race([drained, delay(DRAIN_TIMEOUT_MS, undefined, { ref: false })]);
  }

  /** Ends the threads. Where one has failed, the others' tunnels end with a goodbye. */
  async stop(): Promise<void> {
    const ended = await Promise.all(this.#shards.map((shard) => shard.stop(THREAD_TIMEOUT_MS)));
    if (ended.every(Boolean)) this.#handoff?.close();
  }

  #start(number: number, listen: string): Shard {
    const { log, onReport } = this.#options;
    const shard = new Shard({
      thread: this.#threadOptions(number, listen),
      log,
      onReport: (from, report) => {
        if (report.type === 'window') {
          const { quic, limits, drops, handoffs, cpuSeconds } = report;
          this.#figures[from] = { quic, limits, drops, handoffs, cpuSeconds };
        }
        onReport(from, report);
      },
      onFatal: this.#failed.reject,
    } satisfies ShardOptions);
    this.#shards.push(shard);
    return shard;
  }

  #threadOptions(shard: number, listen: string): ServerThreadOptions {
    const { config, identity } = this.#options;
    return {
      shard,
      shards: this.count,
      handoff: this.#handoff?.of(shard) ?? null,
      listen,
      identity,
      tunName: tunNameOf(config.TUN_NAME, shard, this.count),
      tunnelMtu: config.TUNNEL_MTU,
      tunOffload: config.TUN_OFFLOAD,
      advertiseRoutes: config.ADVERTISE_ROUTES,
      authorities: config.AUTHORITIES,
      maxConnections: Math.ceil(config.MAX_CONNECTIONS / this.count),
      retryKey: this.#retryKey,
      trafficWindowMs: config.TRAFFIC_WINDOW_MS,
    };
  }
}
