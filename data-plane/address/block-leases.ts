import type { PoolBlock } from '../../shared/ip/block.ts';
import { formatPrefix } from '../../shared/ip/prefix.ts';
import type { Supply } from './block-supply.ts';
import type { ShardBlock } from './shard-block.ts';

/** Before a lease ends, no new assignments are made from its block for this long, milliseconds. */
export const NO_ASSIGNMENTS_BEFORE_END_MS = 60_000;
/** Leases are renewed this often, or 12 times within a lease where that is more often. */
const RENEW_EVERY_MS = 5 * 60_000;
const RENEWALS_PER_LEASE = 12;
/** Leases shorter than 4 minutes keep their last quarter free of assignments instead. */
const NO_ASSIGNMENTS_MAX_SHARE = 1 / 4;
/** A renewal that fails is tried again after 1 s, doubling up to 5 s. */
const MIN_RETRY_MS = 1_000;
const MAX_RETRY_MS = 5_000;
/** A pool that is exhausted may have a block again when another node gives one up. */
const ASK_EXHAUSTED_EVERY_MS = 10_000;
/** A pool that is not there, or has no such family, may be added by an administrator. */
const ASK_NO_POOL_EVERY_MS = 60_000;

/** A block of which this node has had a lease. Times are milliseconds of the monotonic clock. */
export interface Lease {
  readonly poolBlock: ShardBlock;
  readonly leaseMs: number;
  readonly endsAt: number;
}

/** Why the control plane gave no block. */
export type AcquireRefusal = 'exhausted' | 'no_pool' | 'unavailable';

interface Backoff {
  readonly notBefore: number;
  readonly delayMs: number;
}

/** What is asked for, whatever shard it is for. */
type PoolFamily = Pick<Supply, 'pool' | 'family'>;

/** Why no more addresses of a block are handed out: the control plane wants it back, or the node can do without it. */
export type DrainReason = 'wanted_back' | 'surplus';

const NO_BACKOFF: Backoff = { notBefore: Number.NEGATIVE_INFINITY, delayMs: 0 };

/**
 * The address blocks of this node and when to ask for what. Pure: every method takes the monotonic time. A lease counts
 * from the moment at which its request was sent, so it ends here before it ends at the control plane.
 */
export class BlockLeases {
  readonly #leases = new Map<string, Lease>();
  /** By pool and family, with what the control plane said. */
  readonly #acquire = new Map<string, Backoff & { readonly why: string }>();
  /** By block. */
  readonly #draining = new Map<string, DrainReason>();
  #renewal = NO_BACKOFF;

  /** Everything that is remembered, ended or not. */
  all(): Lease[] {
    return [...this.#leases.values()];
  }

  /** Blocks whose lease has not ended. */
  held(now: number): ShardBlock[] {
    return this.all()
      .filter(({ endsAt }) => now < endsAt)
      .map(({ poolBlock }) => poolBlock);
  }

  /** Whether addresses of a block may be handed out now. */
  isAssignable(block: PoolBlock['block'], now: number): boolean {
    const key = formatPrefix(block);
    const lease = this.#leases.get(key);
    return lease !== undefined && now < lease.endsAt - unassignableMs(lease) && !this.#draining.has(key);
  }

  /** From now on no addresses of the block are handed out. */
  drain(block: string, reason: DrainReason): void {
    if (this.#leases.has(block) && this.#draining.get(block) !== 'wanted_back') this.#draining.set(block, reason);
  }

  /** Why the block is given up, if it is. */
  drainOf(block: string): DrainReason | undefined {
    return this.#draining.get(block);
  }

  /** A block that could be done without is needed after all. */
  keep(block: string): void {
    if (this.#draining.get(block) === 'surplus') this.#draining.delete(block);
  }

  /**
   * A lease that was granted or renewed by a request sent at `sentAt`. It can be shorter than before: leases are configured. A block that
   * is here stays with its shard and pool; a new one goes to those named.
   */
  leased(poolBlock: ShardBlock, leaseMs: number, sentAt: number): Lease {
    const key = formatPrefix(poolBlock.block);
    const { shard, poolName } = this.#leases.get(key)?.poolBlock ?? poolBlock;
    const held = { ...poolBlock, shard, poolName };
    const lease = { poolBlock: held, leaseMs, endsAt: sentAt + leaseMs };
    this.#leases.set(key, lease);
    return lease;
  }

  /** The block goes to another shard; undefined when it is not here. */
  move(block: string, shard: number): Lease | undefined {
    const lease = this.#leases.get(block);
    if (lease === undefined) return undefined;
    const moved = { ...lease, poolBlock: { ...lease.poolBlock, shard } };
    this.#leases.set(block, moved);
    return moved;
  }

  /** A lease that was stored by an earlier process; `endsAt` is undefined when its clock cannot be compared with ours. */
  restored(poolBlock: ShardBlock, leaseMs: number, endsAt: number | undefined): void {
    const end = endsAt ?? Number.NEGATIVE_INFINITY;
    this.#leases.set(formatPrefix(poolBlock.block), { poolBlock, leaseMs, endsAt: end });
  }

  /** The control plane says that a block is not this node's any more. */
  lost(block: string): PoolBlock | undefined {
    const lease = this.#leases.get(block);
    this.#leases.delete(block);
    this.#draining.delete(block);
    return lease?.poolBlock;
  }

  /** The blocks to renew now, all at once; none when it is not time. Ended leases are asked for too. */
  dueForRenewal(now: number): string[] {
    if (now < this.#renewal.notBefore || this.#leases.size === 0) return [];
    const isDue = this.all().some((lease) => now >= lease.endsAt - lease.leaseMs + renewEveryMs(lease));
    return isDue ? [...this.#leases.keys()] : [];
  }

  renewalSucceeded(): void {
    this.#renewal = NO_BACKOFF;
  }

  renewalFailed(now: number): void {
    this.#renewal = longer(this.#renewal, now);
  }

  /** Whether the control plane may be asked for a block of this pool and family now. */
  mayAcquire(wanted: PoolFamily, now: number): boolean {
    return now >= (this.#acquire.get(keyOf(wanted)) ?? NO_BACKOFF).notBefore;
  }

  /** Why the control plane gave no block when it was asked last. */
  refusalOf(wanted: PoolFamily): string | undefined {
    return this.#acquire.get(keyOf(wanted))?.why;
  }

  acquireSucceeded(wanted: PoolFamily): void {
    this.#acquire.delete(keyOf(wanted));
  }

  acquireFailed(wanted: PoolFamily, refusal: AcquireRefusal, why: string, now: number): void {
    const key = keyOf(wanted);
    switch (refusal) {
      case 'exhausted':
        this.#acquire.set(key, { notBefore: now + ASK_EXHAUSTED_EVERY_MS, delayMs: 0, why });
        return;
      case 'no_pool':
        this.#acquire.set(key, { notBefore: now + ASK_NO_POOL_EVERY_MS, delayMs: 0, why });
        return;
      case 'unavailable':
        this.#acquire.set(key, { ...longer(this.#acquire.get(key) ?? NO_BACKOFF, now), why });
        return;
      default:
        refusal satisfies never;
    }
  }

  /** The connection is back: what failed because it was away may be tried at once. */
  reachable(): void {
    this.#renewal = NO_BACKOFF;
    for (const [key, { delayMs }] of this.#acquire) if (delayMs > 0) this.#acquire.delete(key);
  }
}

/** Whether less than a quarter of a family's addresses are free, or there are none at all. */
export function needsMore({ free, total }: { readonly free: bigint; readonly total: bigint }): boolean {
  return total === 0n || free * 4n < total;
}

function keyOf({ pool, family }: PoolFamily): string {
  return `${pool} ${family}`;
}

function unassignableMs({ leaseMs }: Lease): number {
  return Math.min(NO_ASSIGNMENTS_BEFORE_END_MS, leaseMs * NO_ASSIGNMENTS_MAX_SHARE);
}

function renewEveryMs({ leaseMs }: Lease): number {
  return Math.min(RENEW_EVERY_MS, leaseMs / RENEWALS_PER_LEASE);
}

function longer({ delayMs }: Backoff, now: number): Backoff {
  const next = Math.min(MAX_RETRY_MS, Math.max(MIN_RETRY_MS, delayMs * 2));
  return { notBefore: now + next, delayMs: next };
}
