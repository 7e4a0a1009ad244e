import type { AddressFamily } from '../../shared/ip/address.ts';
import type { PoolBlock } from '../../shared/ip/block.ts';
import { formatPrefix } from '../../shared/ip/prefix.ts';
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
/** A control plane without a pool of a family gets one only by a new configuration. */
const ASK_NO_POOL_EVERY_MS = 10 * 60_000;

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

const NO_BACKOFF: Backoff = { notBefore: Number.NEGATIVE_INFINITY, delayMs: 0 };

/**
 * The address blocks of this node and when to ask for what. Pure: every method takes the monotonic time. A lease counts
 * from the moment at which its request was sent, so it ends here before it ends at the control plane.
 */
export class BlockLeases {
  readonly #leases = new Map<string, Lease>();
  readonly #acquire = new Map<AddressFamily, Backoff>();
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
    const lease = this.#leases.get(formatPrefix(block));
    return lease !== undefined && now < lease.endsAt - unassignableMs(lease);
  }

  /**
   * A lease that was granted or renewed by a request sent at `sentAt`. It can be shorter than before: leases are configured. A block that
   * is here stays with its shard; a new one goes to `shard`.
   */
  leased(poolBlock: PoolBlock, leaseMs: number, sentAt: number, shard: number): Lease {
    const key = formatPrefix(poolBlock.block);
    const held = { ...poolBlock, shard: this.#leases.get(key)?.poolBlock.shard ?? shard };
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

  /** Whether the control plane may be asked for a block of this family now. */
  mayAcquire(family: AddressFamily, now: number): boolean {
    return now >= (this.#acquire.get(family) ?? NO_BACKOFF).notBefore;
  }

  acquireSucceeded(family: AddressFamily): void {
    this.#acquire.delete(family);
  }

  acquireFailed(family: AddressFamily, refusal: AcquireRefusal, now: number): void {
    switch (refusal) {
      case 'exhausted':
        this.#acquire.set(family, { notBefore: now + ASK_EXHAUSTED_EVERY_MS, delayMs: 0 });
        return;
      case 'no_pool':
        this.#acquire.set(family, { notBefore: now + ASK_NO_POOL_EVERY_MS, delayMs: 0 });
        return;
      case 'unavailable':
        this.#acquire.set(family, longer(this.#acquire.get(family) ?? NO_BACKOFF, now));
        return;
      default:
        refusal satisfies never;
    }
  }

  /** The connection is back: what failed because it was away may be tried at once. */
  reachable(): void {
    this.#renewal = NO_BACKOFF;
    for (const [family, { delayMs }] of this.#acquire) if (delayMs > 0) this.#acquire.delete(family);
  }
}

/** Whether less than a quarter of a family's addresses are free, or there are none at all. */
export function needsMore({ free, total }: { readonly free: bigint; readonly total: bigint }): boolean {
  return total === 0n || free * 4n < total;
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
