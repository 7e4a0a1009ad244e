import type { IpAddress } from '../../shared/ip/address.ts';
import type { IpPrefix } from '../../shared/ip/prefix.ts';

/** Of a lease, how much is over when it is renewed, and how much is left when an address that nobody uses is given back. */
const RENEW_AFTER_SHARE = 1 / 3;
const KEEP_UNUSED_SHARE = 1 / 3;

/** A static address that this node has for its client. Times are milliseconds of the monotonic clock. */
export interface StaticHold {
  readonly address: IpAddress;
  /** Of the pool, not of the block: the block is the address alone. */
  readonly pool: IpPrefix;
  readonly clientId: string;
  readonly grant: number;
  readonly leaseMs: number;
  readonly endsAt: number;
  /** Where packets to it are routed to; undefined while that is not set up. */
  readonly shard: number | undefined;
  /** The connection that has it. */
  readonly connectionId: string | undefined;
  /** Its pool retires: whoever has it keeps it, and nobody gets it any more. */
  readonly isRetiring: boolean;
}

export type HoldDuty =
  | 'none'
  /** The lease is over: whoever has the address loses it. */
  | 'end'
  | 'renew'
  /** Its client has not come back, or could not have it. */
  | 'giveBack';

/** What is to be done about an address now. */
export function dutyOf({ endsAt, leaseMs, connectionId, isRetiring }: StaticHold, now: number): HoldDuty {
  const left = endsAt - now;
  if (left <= 0) return 'end';
  if (connectionId !== undefined) return left <= leaseMs * (1 - RENEW_AFTER_SHARE) ? 'renew' : 'none';
  return isRetiring || left <= leaseMs * KEEP_UNUSED_SHARE ? 'giveBack' : 'none';
}
