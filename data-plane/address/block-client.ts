import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { AddressFamily, IpAddress } from '../../shared/ip/address.ts';
import { ADDRESS_REST_MS, DEFAULT_POOL, nodeAddress } from '../../shared/ip/block.ts';
import { canonicalPrefix, formatPrefix, parsePrefix } from '../../shared/ip/prefix.ts';
import type { BlockLease } from '../../shared/nats/messages.ts';
import type { Link } from '../control-link/nats-link.ts';
import type { NodeDatabase } from '../state/node-database.ts';
import { type AcquireRefusal, type BlockLeases, type Lease, needsMore } from './block-leases.ts';
import { BlockReturns } from './block-returns.ts';
import { deleteLease, hasAssignments, restoreLeases, saveLease } from './block-store.ts';
import { findSpare, type Supply } from './block-supply.ts';
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
  /** How often leases and free addresses are looked at, milliseconds. */
  readonly tickMs?: number;
  readonly bootId?: string;
  /** The control plane wants a block back at once: these connections have addresses of it, and must be closed. */
  readonly onBlockClosing: (connectionIds: readonly string[]) => void;
}

/**
 * Gets address blocks from the control plane for each shard, keeps their leases alive, and ends their use in time when it cannot. Of the
 * default pool there are always some in hand; of others from when a client of theirs comes until none has been there for a while. Where
 * a pool is spent, a shard that is short gets a block in which nobody has an address from another.
 */
export class BlockClient {
  readonly #options: BlockClientOptions;
  readonly #now: () => number;
  readonly #bootId: string;
  readonly #inUse: BlocksInUse;
  /** A request that got no answer is repeated under its id; its lease counts from the first time. */
  readonly #open = new Map<string, { readonly requestId: string; readonly sentAt: number }>();
  readonly #returns: BlockReturns;
  /** Pools and shards that a client found without a free address since the last round began, as `demandKey`. */
  #demands = new Map<string, Supply>();
  /** From when on this process knows of every address that rests in a block that was this node's. */
  #remembersFrom = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;
  #stopLink: (() => void) | undefined;

  constructor(options: BlockClientOptions) {
    this.#options = options;
    this.#inUse = new BlocksInUse(options);
    this.#now = options.now ?? monotonicMs;
    this.#bootId = options.bootId ?? readBootId();
    this.#returns = new BlockReturns({ ...options, inUse: this.#inUse, now: this.#now });
  }

  /** The blocks that are set up and leased. */
  get blocks(): ShardBlock[] {
    return this.#inUse.all;
  }

  /** The node's own address of a family in a shard; undefined while it has no block of that family there. */
  nodeAddressIn(shard: number, family: AddressFamily): IpAddress | undefined {
    const held = this.blocks.find((block) => block.shard === shard && block.block.address.family === family);
    return held && nodeAddress(held);
  }

  /** Whether every shard has a block of the default pool. */
  get areSupplied(): boolean {
    const supplied = this.blocks.filter(({ poolName }) => poolName === DEFAULT_POOL).map(({ shard }) => shard);
    return new Set(supplied).size === this.#options.shards;
  }

  /** Resolves when the blocks that an earlier process left and that are still leased are in use. */
  async start(): Promise<void> {
    const { database, leases, link, shards } = this.#options;
    restoreLeases(database.reader, leases, this.#bootId, shards);
    // A state directory without a trace of addresses may be new, in place of one that was lost.
    if (!hasAssignments(database.reader)) this.#remembersFrom = this.#now() + ADDRESS_REST_MS;
    await this.#reconcile();
    this.#timer = setInterval(() => void this.look(), this.#options.tickMs ?? TICK_MS);
    this.#stopLink = link.onUp((connection) => {
      this.#returns.listen(connection);
      leases.reachable();
      void this.look();
    });
  }

  /** Ends what has ended, and asks for what is due; resolves when that is answered. */
  look(): Promise<void> {
    // Not behind a round that waits for an answer: what has ended has ended.
    this.#reconcile().catch((error: unknown) => this.#failed(error));
    return this.#round();
  }

  /** Looks at once whether more addresses are needed; for after an assignment. */
  nudge(): void {
    if (this.#supplies().some((supply) => this.#wants(supply, false) && this.#canSupply(supply))) void this.#round();
  }

  /**
   * A client found no free address of families of its pool: resolves when the shard has one more block, or none is to be had now, within
   * 3 s. What it resolves with is why the control plane gave none, where it did not.
   */
  async demand(shard: number, pool: string, families = FAMILIES): Promise<string | undefined> {
    for (const family of families) {
      const supply = { pool, family, shard };
      this.#demands.set(demandKey(supply), supply);
    }
    await Promise.race([this.#round(), delay(DEMAND_TIMEOUT_MS, undefined, { ref: false })]);
    const refusals = families.map((family) => this.#options.leases.refusalOf({ pool, family }));
    return refusals.find((why) => why !== undefined);
  }

  /** Blocks stay leased: a restarted node goes on with them. */
  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#returns.stop();
    this.#stopLink?.();
  }

  /** Stops, and gives back the blocks in which nobody has an address, if the control plane answers. */
  async giveBackAll(): Promise<void> {
    this.stop();
    await this.#running;
    await this.#returns.giveBackAll().catch((error: unknown) => this.#failed(error));
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
    this.#demands = new Map();
    if (this.#timer === undefined) return;
    try {
      const mayAsk = this.#options.link.connection !== undefined && (await this.#renew());
      for (const supply of this.#supplies(demands.values())) {
        await this.#supply(supply, mayAsk, demands.has(demandKey(supply)));
      }
      this.#returns.compact();
      await this.#returns.giveBack();
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    this.#options.log.error({ err: error }, 'address blocks cannot be kept');
  }

  async #supply(supply: Supply, mayAsk: boolean, demanded: boolean): Promise<void> {
    const { leases } = this.#options;
    for (let i = 0; i < MAX_BLOCKS_PER_ROUND && this.#wants(supply, demanded); i++) {
      if (this.#returns.keepOne(supply)) continue;
      const asked = mayAsk && leases.mayAcquire(supply, this.#now()) && (await this.#acquire(supply));
      if (!asked && !(await this.#takeSpare(supply, demanded))) return;
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
        await this.#store(reply.leases.map((lease) => this.#leased(lease, sentAt, { pool: DEFAULT_POOL, shard: 0 })));
        const renewed = new Set(reply.leases.map(({ block }) => canonicalPrefix(block)));
        const lost = new Set(reply.lost.map(canonicalPrefix));
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

  /** Where addresses may be wanted: the default pool, those of which there are blocks, and those that are demanded. */
  #supplies(demanded: Iterable<Supply> = []): Supply[] {
    const held = this.#options.leases.all().map(({ poolBlock }) => poolBlock.poolName);
    const pools = new Set([DEFAULT_POOL, ...held, ...Array.from(demanded, ({ pool }) => pool)]);
    const shards = Array.from({ length: this.#options.shards }, (_, shard) => shard);
    return [...pools].flatMap((pool) =>
      FAMILIES.flatMap((family) => shards.map((shard): Supply => ({ pool, family, shard }))),
    );
  }

  #wants({ pool, family, shard }: Supply, demanded: boolean): boolean {
    const { book, leases } = this.#options;
    const count = book.count(family, shard, pool);
    // Of other pools nothing is kept in stock for clients that may never come to this shard.
    if (count.total === 0n && pool !== DEFAULT_POOL && !demanded) return false;
    if (!needsMore(count)) return false;
    // One that is leased and not in use has room yet; to take another instead would empty the pool.
    return !leases
      .held(this.#now())
      .some(
        (held) =>
          held.poolName === pool &&
          held.block.address.family === family &&
          held.shard === shard &&
          !this.#inUse.has(held),
      );
  }

  #canSupply(supply: Supply): boolean {
    return this.#options.leases.mayAcquire(supply, this.#now()) || this.#findSpare(supply, false) !== undefined;
  }

  #findSpare(supply: Supply, isUrgent: boolean): ShardBlock | undefined {
    const { book, leases } = this.#options;
    const assignable = this.blocks.filter(({ block }) => leases.isAssignable(block, this.#now()));
    return findSpare(assignable, book, supply, isUrgent);
  }

  async #acquire(supply: Supply): Promise<boolean> {
    const { node, leases, link, log } = this.#options;
    const { pool, family, shard } = supply;
    const key = `${pool} ${family}`;
    const open = this.#open.get(key) ?? { requestId: randomBytes(16).toString('hex'), sentAt: this.#now() };
    this.#open.set(key, open);
    const reply = await requestBlocks(
      link,
      {
        op: 'acquire',
        node,
        family,
        requestId: open.requestId,
        // An earlier control plane knows one pool, and no more of a request.
        ...(pool === DEFAULT_POOL ? {} : { pool }),
        ...(this.#now() >= this.#remembersFrom ? { remembers: true as const } : {}),
      },
      log,
    );
    if (!reply.ok) {
      const refusal: AcquireRefusal =
        reply.code === 'exhausted' || reply.code === 'no_pool' ? reply.code : 'unavailable';
      if (refusal !== 'unavailable') this.#open.delete(key);
      if (refusal === 'exhausted') log.warn({ pool, family, shard }, 'no address block is free in the pool');
      leases.acquireFailed(supply, refusal, reply.message, this.#now());
      return false;
    }
    this.#open.delete(key);
    leases.acquireSucceeded(supply);
    await this.#store(reply.leases.map((lease) => this.#leased(lease, open.sentAt, supply)));
    return reply.leases.length > 0;
  }

  async #takeSpare(supply: Supply, demanded: boolean): Promise<boolean> {
    const { book, leases, log } = this.#options;
    const { pool, family, shard } = supply;
    const isUrgent = demanded && book.count(family, shard, pool).free === 0n;
    const spare = this.#findSpare(supply, isUrgent);
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

  #leased(lease: BlockLease, sentAt: number, { pool: poolName, shard }: Omit<Supply, 'family'>): Lease {
    const { block, pool, leaseSeconds } = lease;
    const held = { pool: parsePrefix(pool), block: parsePrefix(block), poolName, shard };
    return this.#options.leases.leased(held, leaseSeconds * 1000, sentAt);
  }

  async #store(leases: readonly Lease[]): Promise<void> {
    await this.#options.database.commit((db) => {
      for (const lease of leases) saveLease(db, lease, this.#bootId);
    });
  }
}

function demandKey({ pool, family, shard }: Supply): string {
  return `${pool} ${family} ${shard}`;
}
