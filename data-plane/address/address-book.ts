import type { DatabaseSync } from 'node:sqlite';
import { CodedError } from '../../shared/errors.ts';
import { type AddressFamily, formatAddress, type IpAddress, parseAddress } from '../../shared/ip/address.ts';
import { ADDRESS_REST_MS, assignableCount, isAssignable, type PoolBlock } from '../../shared/ip/block.ts';
import { formatPrefix, lastAddress, prefixContains } from '../../shared/ip/prefix.ts';
import type { ShardBlock } from './shard-block.ts';

export class AddressesExhaustedError extends CodedError {
  readonly family: AddressFamily | undefined;

  /** `why`: what the control plane says, where it was asked for more. */
  constructor(family: AddressFamily | undefined, why?: string) {
    const what = family === undefined ? 'no address block is held now' : `no free IPv${family} address`;
    super('ADDRESSES_EXHAUSTED', why === undefined ? what : `${what}: ${why}`);
    this.family = family;
  }
}

export interface AssignedAddress extends PoolBlock {
  readonly address: IpAddress;
}

/** A change that is made in memory and still has to be stored, together with its events. */
export interface BookChange {
  readonly addresses: readonly AssignedAddress[];
  /** For `Spool.append`'s `alongWith`. */
  readonly save: (db: DatabaseSync) => void;
}

export interface AssignRequest {
  /** Whose addresses are handed out. */
  readonly shard: number;
  /** Of which pool. */
  readonly pool: string;
  readonly clientId: string;
  readonly connectionId: string;
  readonly families: readonly AddressFamily[];
  /** What the client would like, where nobody else has it or had it lately. */
  readonly wished?: readonly IpAddress[];
}

export interface AddressCount {
  /** All that can be handed to clients, of blocks that may be assigned from now. */
  readonly total: bigint;
  /** Neither assigned nor resting. */
  readonly free: bigint;
}

interface Held {
  readonly poolBlock: ShardBlock;
  /** The first address that was never handed out; all before it are in `taken` or `released`. */
  fresh: bigint;
  readonly taken: Set<bigint>;
  /** When each was released, monotonic; oldest first, since a Map keeps the order of insertion. */
  readonly released: Map<bigint, number>;
}

/** A row of the assignments table, for `AddressBook.restore`. */
export interface StoredAssignment {
  readonly address: string;
  readonly clientId: string;
  /** Wall clock; null: it was still assigned when the process ended. */
  readonly releasedAtMs: number | null;
}

export interface AddressBookOptions {
  readonly now: () => number;
  readonly wallClock?: () => number;
  /** Whether a block's lease allows new assignments now. */
  readonly mayAssign: (poolBlock: PoolBlock) => boolean;
  /** From an earlier process: kept until the block that holds the address is added. */
  readonly stored?: readonly StoredAssignment[];
}

/**
 * Hands out single addresses of the blocks that this node holds, to the clients of each shard and pool those of its own blocks. A released address rests before another client gets it;
 * the client that had it last may take it back at once. Otherwise addresses that were never used come first, then the one
 * that was released longest ago.
 */
export class AddressBook {
  readonly #now: () => number;
  readonly #wallClock: () => number;
  readonly #mayAssign: (poolBlock: PoolBlock) => boolean;
  readonly #blocks = new Map<string, Held>();
  readonly #byConnection = new Map<string, { readonly clientId: string; readonly addresses: AssignedAddress[] }>();
  /** The last client of a released address, by the address's text. */
  readonly #lastOwner = new Map<string, string>();
  /** The last addresses of a client, by client, family and shard. */
  readonly #lastAddress = new Map<string, IpAddress>();
  /** Releases in blocks that are not held now. */
  #stored: (StoredAssignment & { readonly parsed: IpAddress })[];

  constructor(options: AddressBookOptions) {
    this.#now = options.now;
    this.#wallClock = options.wallClock ?? Date.now;
    this.#mayAssign = options.mayAssign;
    this.#stored = (options.stored ?? []).map((row) => ({ ...row, parsed: parseAddress(row.address) }));
  }

  /** The rows that an earlier process left; what it left assigned counts as released now. */
  static load(db: DatabaseSync): StoredAssignment[] {
    const rows = db.prepare('SELECT address, client_id, released_at FROM assignments').all();
    return rows.map((row) => ({
      address: String(row.address),
      clientId: String(row.client_id),
      releasedAtMs: row.released_at === null ? null : Number(row.released_at),
    }));
  }

  addBlock(poolBlock: ShardBlock): void {
    const key = formatPrefix(poolBlock.block);
    if (this.#blocks.has(key)) return;
    const held: Held = { poolBlock, fresh: poolBlock.block.address.value, taken: new Set(), released: new Map() };
    this.#blocks.set(key, held);
    for (const { addresses } of this.#byConnection.values()) {
      for (const { address } of addresses) {
        // The block was lost and came back before this connection was closed.
        if (prefixContains(poolBlock.block, address)) held.taken.add(address.value);
      }
    }
    const mine = this.#stored.filter(({ parsed }) => prefixContains(poolBlock.block, parsed));
    this.#stored = this.#stored.filter((row) => !mine.includes(row));
    const releases = mine.map((row) => ({ row, at: this.#now() - this.#restedMs(row.releasedAtMs) }));
    for (const { row, at } of releases.sort((a, b) => a.at - b.at)) {
      if (!isAssignable(poolBlock, row.parsed)) continue;
      held.released.set(row.parsed.value, at);
      this.#remember(row.parsed, row.clientId, poolBlock.shard);
    }
  }

  /**
   * The block is not this node's any more. Answers the connections that have addresses of it; they keep them until they
   * are released.
   */
  removeBlock(poolBlock: PoolBlock): string[] {
    const key = formatPrefix(poolBlock.block);
    const held = this.#blocks.get(key);
    this.#blocks.delete(key);
    for (const [value, at] of held?.released ?? []) {
      const address: IpAddress = { family: poolBlock.block.address.family, value };
      const text = formatAddress(address);
      const owner = this.#lastOwner.get(text);
      if (owner === undefined || held === undefined) continue;
      this.#forget(owner, address, held.poolBlock.shard);
      this.#lastOwner.delete(text);
      this.#keep(address, owner, this.#wallClock() - (this.#now() - at));
    }
    return this.connectionsIn(poolBlock);
  }

  /**
   * One address of each family of which the shard holds blocks of the pool. Throws AddressesExhaustedError, having assigned nothing, when
   * such a family has no free address, or no family has blocks.
   */
  assign({ shard, pool, clientId, connectionId, families, wished = [] }: AssignRequest): BookChange {
    if (this.#byConnection.has(connectionId)) throw new Error(`connection ${connectionId} has its addresses already`);
    const chosen: { readonly held: Held; readonly address: IpAddress }[] = [];
    for (const family of families) {
      const blocks = this.#usable(family, shard, pool);
      if (blocks.length === 0) continue;
      const choice =
        this.#wished(clientId, wished, blocks) ??
        this.#returning(clientId, family, blocks) ??
        this.#unused(blocks) ??
        this.#rested(blocks);
      if (choice === undefined) throw new AddressesExhaustedError(family);
      chosen.push(choice);
    }
    if (chosen.length === 0) throw new AddressesExhaustedError(undefined);
    const addresses = chosen.map(({ held, address }) => {
      this.#take(held, address);
      return { ...held.poolBlock, address };
    });
    this.#byConnection.set(connectionId, { clientId, addresses });
    const at = this.#wallClock();
    return {
      addresses,
      save: (db) => {
        const insert = db.prepare(
          `INSERT INTO assignments (address, client_id, connection_id, assigned_at, released_at)
           VALUES (?, ?, ?, ?, NULL)
           ON CONFLICT (address) DO UPDATE SET client_id = excluded.client_id, connection_id = excluded.connection_id,
             assigned_at = excluded.assigned_at, released_at = NULL`,
        );
        for (const { address } of addresses) insert.run(formatAddress(address), clientId, connectionId, at);
      },
    };
  }

  /** Gives back the addresses of a connection; none when it has none. */
  release(connectionId: string): BookChange {
    const entry = this.#byConnection.get(connectionId);
    this.#byConnection.delete(connectionId);
    if (entry === undefined) return { addresses: [], save: () => {} };
    const { addresses } = entry;
    for (const { block, address } of addresses) {
      const held = this.#blocks.get(formatPrefix(block));
      if (held === undefined) this.#keep(address, entry.clientId, this.#wallClock());
      if (!held?.taken.delete(address.value)) continue;
      held.released.set(address.value, this.#now());
      this.#remember(address, entry.clientId, held.poolBlock.shard);
    }
    const at = this.#wallClock();
    return {
      addresses,
      save: (db) => {
        const update = db.prepare('UPDATE assignments SET released_at = ? WHERE address = ? AND connection_id = ?');
        for (const { address } of addresses) update.run(at, formatAddress(address), connectionId);
      },
    };
  }

  /** The shard in which a client would get an address of the pool back, that which it left last; undefined where there is none. */
  lastShardOf(clientId: string, pool: string): number | undefined {
    let last: { readonly shard: number; readonly at: number } | undefined;
    for (const { poolBlock, released } of this.#blocks.values()) {
      const { shard, block, poolName } = poolBlock;
      if (poolName !== pool) continue;
      const address = this.#lastAddress.get(`${clientId} ${block.address.family} ${shard}`);
      const at = address && released.get(address.value);
      if (at !== undefined && at >= (last?.at ?? at) && this.#mayAssign(poolBlock)) last = { shard, at };
    }
    return last?.shard;
  }

  /** Of one shard and pool, or of all. */
  count(family: AddressFamily, shard?: number, pool?: string): AddressCount {
    let total = 0n;
    let free = 0n;
    for (const held of this.#usable(family, shard, pool)) {
      const assignable = assignableCount(held.poolBlock);
      total += assignable;
      free += assignable - BigInt(held.taken.size + this.#resting(held));
    }
    return { total, free };
  }

  /** Whether nobody has an address of the block. */
  isIdle(poolBlock: PoolBlock): boolean {
    return this.#blocks.get(formatPrefix(poolBlock.block))?.taken.size === 0;
  }

  /** How many addresses of the block are assigned or rest. */
  usedOf({ block }: PoolBlock): bigint {
    const held = this.#blocks.get(formatPrefix(block));
    return held === undefined ? 0n : BigInt(held.taken.size + this.#resting(held));
  }

  /** The connections that have addresses of the block. */
  connectionsIn({ block }: PoolBlock): string[] {
    return [...this.#byConnection]
      .filter(([, { addresses }]) => addresses.some(({ address }) => prefixContains(block, address)))
      .map(([connectionId]) => connectionId);
  }

  #resting({ released }: Held): number {
    const now = this.#now();
    let resting = released.size;
    // The oldest come first.
    for (const at of released.values()) {
      if (now - at < ADDRESS_REST_MS) break;
      resting--;
    }
    return resting;
  }

  #usable(family: AddressFamily, shard: number | undefined, pool: string | undefined): Held[] {
    return [...this.#blocks.values()].filter(
      ({ poolBlock }) =>
        poolBlock.block.address.family === family &&
        (shard === undefined || poolBlock.shard === shard) &&
        (pool === undefined || poolBlock.poolName === pool) &&
        this.#mayAssign(poolBlock),
    );
  }

  #wished(clientId: string, wished: readonly IpAddress[], blocks: readonly Held[]) {
    for (const address of wished) {
      const held = blocks.find(({ poolBlock }) => prefixContains(poolBlock.block, address));
      if (held === undefined || !isAssignable(held.poolBlock, address) || held.taken.has(address.value)) continue;
      const releasedAt = held.released.get(address.value);
      const rests = releasedAt !== undefined && this.#now() - releasedAt < ADDRESS_REST_MS;
      if (!rests || this.#lastOwner.get(formatAddress(address)) === clientId) return { held, address };
    }
    return undefined;
  }

  #returning(clientId: string, family: AddressFamily, blocks: readonly Held[]) {
    const shard = blocks[0]?.poolBlock.shard;
    const address = this.#lastAddress.get(`${clientId} ${family} ${shard}`);
    if (address === undefined || this.#lastOwner.get(formatAddress(address)) !== clientId) return undefined;
    const held = blocks.find(({ released }) => released.has(address.value));
    return held && { held, address };
  }

  #unused(blocks: readonly Held[]) {
    for (const held of blocks) {
      const { family } = held.poolBlock.block.address;
      const last = lastAddress(held.poolBlock.block).value;
      for (; held.fresh <= last; held.fresh++) {
        const address: IpAddress = { family, value: held.fresh };
        const isUsed = held.taken.has(held.fresh) || held.released.has(held.fresh);
        if (!isUsed && isAssignable(held.poolBlock, address)) return { held, address };
      }
    }
    return undefined;
  }

  #rested(blocks: readonly Held[]) {
    let oldest: { readonly held: Held; readonly value: bigint; readonly at: number } | undefined;
    for (const held of blocks) {
      const [first] = held.released;
      if (first !== undefined && (oldest === undefined || first[1] < oldest.at)) {
        oldest = { held, value: first[0], at: first[1] };
      }
    }
    if (oldest === undefined || this.#now() - oldest.at < ADDRESS_REST_MS) return undefined;
    const { held, value } = oldest;
    return { held, address: { family: held.poolBlock.block.address.family, value } satisfies IpAddress };
  }

  #take(held: Held, address: IpAddress): void {
    held.released.delete(address.value);
    held.taken.add(address.value);
    const text = formatAddress(address);
    const previous = this.#lastOwner.get(text);
    if (previous !== undefined) this.#forget(previous, address, held.poolBlock.shard);
    this.#lastOwner.delete(text);
  }

  #remember(address: IpAddress, clientId: string, shard: number): void {
    this.#lastOwner.set(formatAddress(address), clientId);
    this.#lastAddress.set(`${clientId} ${address.family} ${shard}`, address);
  }

  /** A release in a block that is not ours now: it rests on if the block comes back. */
  #keep(address: IpAddress, clientId: string, releasedAtMs: number): void {
    this.#stored.push({ address: formatAddress(address), clientId, releasedAtMs, parsed: address });
  }

  #forget(clientId: string, address: IpAddress, shard: number): void {
    const key = `${clientId} ${address.family} ${shard}`;
    if (this.#lastAddress.get(key)?.value === address.value) this.#lastAddress.delete(key);
  }

  /** How long a stored release has rested: not at all where the wall clock cannot tell. */
  #restedMs(releasedAt: number | null): number {
    if (releasedAt === null) return 0;
    const elapsed = this.#wallClock() - releasedAt;
    return Math.max(elapsed, 0);
  }
}
