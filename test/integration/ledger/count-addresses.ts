import assert from 'node:assert/strict';
import type { PoolLayout } from '../../../control-plane/pools/pool-aggregate.ts';
import { type AddressFamily, formatAddress, type IpAddress } from '../../../shared/ip/address.ts';
import { isAssignable, isHostAddress, type PoolBlock } from '../../../shared/ip/block.ts';
import { type IpPrefix, lastAddress, prefixAround, prefixCovers } from '../../../shared/ip/prefix.ts';
import type { LedgerNode } from './ledger-node.ts';

/** Open, resting and free are all that the node has to hand out: in each of its blocks, and in those that it hands out from. */
export function checkAddresses(node: LedgerNode, now: number): void {
  const open = new Set([...node.open.values()].flatMap(({ addresses }) => addresses));
  const counts = { 4: { total: 0n, free: 0n }, 6: { total: 0n, free: 0n } };
  for (const { poolBlock, used, mayAssign } of node.blocksInUse) {
    const addresses = clientAddresses(poolBlock).map(formatAddress);
    const free = addresses.filter((address) => !open.has(address) && !node.rest.rests(address, now));
    assert.equal(Number(used), addresses.length - free.length, `${node.id}: open and resting in a block`);
    if (!mayAssign) continue;
    const count = counts[poolBlock.block.address.family];
    count.total += BigInt(addresses.length);
    count.free += BigInt(free.length);
  }
  for (const family of [4, 6] as const)
    assert.deepEqual(node.count(family), counts[family], `${node.id}: IPv${family}`);
}

/** What clients can get of a family of a pool when every block is granted, and what of it is in blocks that are. */
export function countPool(
  { prefixes, blockLength }: PoolLayout,
  family: AddressFamily,
  granted: readonly IpPrefix[],
): { total: number; granted: number } {
  const count = { total: 0, granted: 0 };
  for (const pool of prefixes.filter(({ address }) => address.family === family)) {
    const blocks = granted.filter((block) => prefixCovers(pool, block));
    const wholes = new Map<bigint, number>();
    for (const address of addressesOf(pool)) {
      if (isHostAddress(pool, address)) count.total++;
      wholes.set(wholeAround(address, blockLength[family]), 0);
    }
    for (const block of blocks) {
      const whole = wholeAround(block.address, blockLength[family]);
      wholes.set(whole, (wholes.get(whole) ?? 0) + 1);
      count.granted += clientAddresses({ pool, block }).length;
    }
    // Of each whole block, or each part of it that is granted, one is its node's.
    for (const parts of wholes.values()) count.total -= Math.max(1, parts);
  }
  return count;
}

function wholeAround(address: IpAddress, length: number): bigint {
  return prefixAround({ address, length }, length).address.value;
}

function clientAddresses(poolBlock: PoolBlock): IpAddress[] {
  return addressesOf(poolBlock.block).filter((address) => isAssignable(poolBlock, address));
}

function addressesOf(prefix: IpPrefix): IpAddress[] {
  const addresses: IpAddress[] = [];
  const { family, value: first } = prefix.address;
  for (let value = first; value <= lastAddress(prefix).value; value++) addresses.push({ family, value });
  return addresses;
}
