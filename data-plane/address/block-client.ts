import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { AddressFamily } from '../../shared/ip/address.ts';
import { formatPrefix, parsePrefix } from '../../shared/ip/prefix.ts';
import type { BlockLease } from '../../shared/nats/messages.ts';
import type { Link } from '../control-link/nats-link.ts';
import type { NodeDatabase } from '../state/node-database.ts';
import { type AcquireRefusal, type BlockLeases, type Lease, needsMore } from './block-leases.ts';
import { deleteLease, restoreLeases, saveLease } from './block-store.ts';
import { findSpare } from './block-supply.ts';
import { BlocksInUse, type BlocksInUseOptions } from './blocks-in-use.ts';
import { monotonicMs, readBootId } from './boot-clock.ts';
import { requestBlocks } from './request-blocks.ts';
import type { ShardBlock } from './shard-block.ts';

/** Ours: how often leases and free addresses are looked at, milliseconds. */
const TICK_MS = 1_000;
const FAMILIES: readonly AddressFamily[] = [4, 6];
/** Ours: the longest that a client waits for an address. */
const DEMAND_TIMEOUT_MS = 3_000;
/** Ours: a bound for one shard in one round; the next follows a second later. */
const MAX_BLOCKS_PER_ROUND = 16;

export interface BlockClientOptions extends BlocksInUseOptions {
  readonly node: string;
  /** How many there are; each is kept supplied. */
  readonly shards: number;
  readonly link: Link;
  readonly database: NodeDatabase;
  readonly leases: BlockLeases;
  readonly now?: () => number;
  readonly bootId?: string;
}

/**
 * Gets address blocks from the control plane for each shard, keeps their leases alive, and ends their use in time when it cannot. Where the
 * pools are spent, a shard that is short gets a block in which nobody has an address from another.
 */
export class BlockClient {
  readonly #options: BlockClientOptions;
  readonly #now: () => number;
  readonly #bootId: string;
  readonly #inUse: BlocksInUse;
  /** A request that got no answer is repeated under its id; its lease counts from the first time. */
  readonly #open = new Map<AddressFamily, { readonly requestId: string; readonly sentAt: number }>();
  /** Shards that a client found without a free address since the last round began. */
  #demands = new Set<number>();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;
  #stopLink: (() => void) | undefined;

  constructor(options: BlockClientOptions) {
    this.#options = options;
    this.#inUse = new BlocksInUse(options);
    this.#now = options.now ?? monotonicMs;
    this.#bootId = options.bootId ?? readBootId();
  }

  /** The blocks that are set up and leased. */
  get blocks(): ShardBlock[] {
    return this.#inUse.all;
  }

  /** Whether every shard has a block. */
  get areSupplied(): boolean {
    return new Set(this.blocks.map(({ shard }) => shard)).size === this.#options.shards;
  }

  /** Resolves when the blocks that an earlier process left and that are still leased are in use. */
  async start(): Promise<void> {
    const { database, leases, link, shards } = this.#options;
    restoreLeases(database.reader, leases, this.#bootId, shards);
    await this.#reconcile();
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#stopLink = link.onUp(() => {
      leases.reachable();
      this.#tick();
    });
  }

  /** Looks at once whether more addresses are needed; for after an assignment. */
  nudge(): void {
    if (this.#everyShard((family, shard) => this.#wants(family, shard) && this.#canSupply(family, shard))) {
      void this.#round();
    }
  }

  /** A client found no free address: resolves when its shard has one more block, or none is to be had now, within 3 s. */
  async demand(shard: number): Promise<void> {
    this.#demands.add(shard);
    await Promise.race([this.#round(), delay(DEMAND_TIMEOUT_MS, undefined, { ref: false })]);
  }

  /** Blocks stay leased: a restarted node goes on with them. */
  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#stopLink?.();
  }

  #tick(): void {
    // Not behind a round that waits for an answer: what has ended has ended.
    this.#reconcile().catch((error: unknown) => this.#failed(error));
    void this.#round();
  }

  /** A round that begins after this call. There is one at a time, and those who ask for the next one share it. */
  #round(): Promise<void> {
    this.#next ??= this.#running.then(() => {
      this.#next = undefined;
      this.#running = this.#runRound();
      return this.#running;
    });
    return this.#next;
  }

  async #runRound(): Promise<void> {
    const demands = this.#demands;
    this.#demands = new Set();
    if (this.#timer === undefined) return;
    try {
      const mayAsk = this.#options.link.connection !== undefined && (await this.#renew());
      for (const family of FAMILIES) {
        for (let shard = 0; shard < this.#options.shards; shard++) {
          await this.#supply(family, shard, mayAsk, demands.has(shard));
        }
      }
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    this.#options.log.error({ err: error }, 'address blocks cannot be kept');
  }

  async #supply(family: AddressFamily, shard: number, mayAsk: boolean, demanded: boolean): Promise<void> {
    const { leases } = this.#options;
    for (let i = 0; i < MAX_BLOCKS_PER_ROUND && this.#wants(family, shard); i++) {
      const asked = mayAsk && leases.mayAcquire(family, this.#now()) && (await this.#acquire(family, shard));
      if (!asked && !(await this.#takeSpare(family, shard, demanded))) return;
      // Only a block that is in use counts.
      await this.#reconcile();
    }
  }

  #reconcile(): Promise<void> {
    return this.#inUse.reconcile(this.#options.leases.held(this.#now()));
  }

  /** Whether every block is accounted for, so that more may be asked for. */
  async #renew(): Promise<boolean> {
    const { node, leases, database, link, log } = this.#options;
    const blocks = leases.dueForRenewal(this.#now());
    if (blocks.length > 0) {
      const sentAt = this.#now();
      const reply = await requestBlocks(link, { op: 'renew', node, blocks }, log);
      if (!reply.ok) {
        leases.renewalFailed(this.#now());
      } else {
        leases.renewalSucceeded();
        await this.#store(reply.leases.map((lease) => this.#leased(lease, sentAt, 0)));
        const renewed = new Set(reply.leases.map(({ block }) => canonical(block)));
        const lost = new Set(reply.lost.map(canonical));
        const held = new Set(leases.held(this.#now()).map(({ block }) => formatPrefix(block)));
        // A block that is named in neither list is given up only when its lease has ended here as well.
        const gone = blocks.filter((block) => !renewed.has(block) && (lost.has(block) || !held.has(block)));
        for (const block of gone) leases.lost(block);
        await database.commit((db) => {
          for (const block of gone) deleteLease(db, block);
        });
        await this.#reconcile();
      }
    }
    return leases.held(this.#now()).length === leases.all().length;
  }

  #everyShard(probe: (family: AddressFamily, shard: number) => boolean): boolean {
    const shards = Array.from({ length: this.#options.shards }, (_, shard) => shard);
    return FAMILIES.some((family) => shards.some((shard) => probe(family, shard)));
  }

  #wants(family: AddressFamily, shard: number): boolean {
    const { book, leases } = this.#options;
    // One that is leased and not in use has room yet; to take another instead would empty the pool.
    const isOneToCome = leases
      .held(this.#now())
      .some((held) => held.block.address.family === family && held.shard === shard && !this.#inUse.has(held));
    return !isOneToCome && needsMore(book.count(family, shard));
  }

  #canSupply(family: AddressFamily, shard: number): boolean {
    return this.#options.leases.mayAcquire(family, this.#now()) || this.#findSpare(family, shard, false) !== undefined;
  }

  #findSpare(family: AddressFamily, shard: number, isUrgent: boolean): ShardBlock | undefined {
    const { book, leases } = this.#options;
    const assignable = this.blocks.filter(({ block }) => leases.isAssignable(block, this.#now()));
    return findSpare(assignable, book, family, shard, isUrgent);
  }

  async #acquire(family: AddressFamily, shard: number): Promise<boolean> {
    const { node, leases, link, log } = this.#options;
    const open = this.#open.get(family) ?? { requestId: randomBytes(16).toString('hex'), sentAt: this.#now() };
    this.#open.set(family, open);
    const reply = await requestBlocks(link, { op: 'acquire', node, family, requestId: open.requestId }, log);
    if (!reply.ok) {
      const refusal: AcquireRefusal =
        reply.code === 'exhausted' || reply.code === 'no_pool' ? reply.code : 'unavailable';
      if (refusal !== 'unavailable') this.#open.delete(family);
      if (refusal === 'exhausted') log.warn({ family, shard }, 'no address block is free in any pool');
      leases.acquireFailed(family, refusal, this.#now());
      return false;
    }
    this.#open.delete(family);
    leases.acquireSucceeded(family);
    await this.#store(reply.leases.map((lease) => this.#leased(lease, open.sentAt, shard)));
    return reply.leases.length > 0;
  }

  async #takeSpare(family: AddressFamily, shard: number, demanded: boolean): Promise<boolean> {
    const { book, leases, log } = this.#options;
    const isUrgent = demanded && book.count(family, shard).free === 0n;
    const spare = this.#findSpare(family, shard, isUrgent);
    if (spare === undefined) return false;
    const block = formatPrefix(spare.block);
    const moved = leases.move(block, shard);
    if (moved === undefined) return false;
    // Before anything else can happen: nobody gets an address of it on its way.
    this.#inUse.withdraw(spare);
    log.info({ block, shard, from: spare.shard }, 'an address block that nobody uses moves to another shard');
    await this.#store([moved]);
    return true;
  }

  #leased({ block, pool, leaseSeconds }: BlockLease, sentAt: number, shard: number): Lease {
    const poolBlock = { pool: parsePrefix(pool), block: parsePrefix(block) };
    return this.#options.leases.leased(poolBlock, leaseSeconds * 1000, sentAt, shard);
  }

  async #store(leases: readonly Lease[]): Promise<void> {
    await this.#options.database.commit((db) => {
      for (const lease of leases) saveLease(db, lease, this.#bootId);
    });
  }
}

function canonical(prefix: string): string {
  return formatPrefix(parsePrefix(prefix));
}
