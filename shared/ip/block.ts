import { type IpAddress, sameAddress } from './address.ts';
import { type IpPrefix, lastAddress, prefixSize } from './prefix.ts';

/**
 * A released address is given to no other client for this long (ours), milliseconds: its node rests it, the metrics count
 * it as used, and a returned block goes to nobody.
 */
export const ADDRESS_REST_MS = 60_000;

/** The pool of everybody who is given no other. */
export const DEFAULT_POOL = 'default';

/** Pools are split into blocks, each granted to one node, which hands out its addresses one by one. */
export interface PoolBlock {
  readonly pool: IpPrefix;
  readonly block: IpPrefix;
}

/** How many blocks of `blockLength` bits a pool has. */
export function blockCount(pool: IpPrefix, blockLength: number): bigint {
  return 1n << BigInt(blockLength - pool.length);
}

/** Block number `index` (from 0) of a pool. */
export function blockAt(pool: IpPrefix, blockLength: number, index: bigint): IpPrefix {
  const size = prefixSize({ address: pool.address, length: blockLength });
  return { address: { family: pool.address.family, value: pool.address.value + index * size }, length: blockLength };
}

/**
 * Whether an address can be given to a host: not the pool's first address (IPv4 network, IPv6 subnet-router anycast,
 * RFC 4291 2.6.1) and, in IPv4, not its last (broadcast).
 */
export function isHostAddress(pool: IpPrefix, address: IpAddress): boolean {
  if (sameAddress(address, pool.address)) return false;
  return address.family === 6 || !sameAddress(address, lastAddress(pool));
}

/** The address of a block that its node keeps for itself: the first that can be given to a host. */
export function nodeAddress({ pool, block }: PoolBlock): IpAddress {
  const first = block.address;
  return isHostAddress(pool, first) ? first : { family: first.family, value: first.value + 1n };
}

/** Whether a block's node may hand this address of it to a client. */
export function isAssignable(poolBlock: PoolBlock, address: IpAddress): boolean {
  return isHostAddress(poolBlock.pool, address) && !sameAddress(address, nodeAddress(poolBlock));
}

/** How many addresses of a block can be handed to clients. */
export function assignableCount({ pool, block }: PoolBlock): bigint {
  let count = prefixSize(block) - 1n;
  if (sameAddress(block.address, pool.address)) count -= 1n;
  if (block.address.family === 4 && sameAddress(lastAddress(block), lastAddress(pool))) count -= 1n;
  return count > 0n ? count : 0n;
}

/** How many addresses of a pool can be handed to clients when all its blocks are granted. */
export function poolCapacity(pool: IpPrefix, blockLength: number): bigint {
  const reserved = pool.address.family === 4 ? 2n : 1n;
  const capacity = prefixSize(pool) - reserved - blockCount(pool, blockLength);
  return capacity > 0n ? capacity : 0n;
}
