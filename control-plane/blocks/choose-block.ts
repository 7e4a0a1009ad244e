import type { AddressFamily } from '../../shared/ip/address.ts';
import { ADDRESS_REST_MS } from '../../shared/ip/block.ts';
import {
  formatPrefix,
  type IpPrefix,
  parsePrefix,
  prefixCovers,
  prefixesOverlap,
  prefixSize,
} from '../../shared/ip/prefix.ts';
import type { PoolLayout } from '../pools/pool-aggregate.ts';
import { type BlockAggregate, newBlock } from './block-aggregate.ts';
import { bestFit, freeSpace, sizeOf } from './free-space.ts';

/** A returned block goes to nobody else for this long, so that the addresses released with it rest before reuse. */
export const BLOCK_REST_MS = ADDRESS_REST_MS;
/**
 * No grant takes more than this part of what is free (ours): when a pool runs low the blocks become smaller, so that several nodes
 * get some of the last addresses.
 */
const MAX_SHARE_OF_FREE = 4n;
/** The smallest blocks that a pool is split into when it runs low (ours), unless it is configured to have smaller ones. */
const SMALLEST_BLOCK: Readonly<Record<AddressFamily, number>> = { 4: 28, 6: 124 };

export interface BlockWish {
  readonly family: AddressFamily;
  readonly node: string;
  /** The node rests the addresses of its former blocks itself, so those need not. */
  readonly remembers: boolean;
}

/** A block that is free, and since when. */
interface FreeBlock {
  readonly prefix: IpPrefix;
  readonly previousNode: string | null;
  readonly freedAt: number;
}

/**
 * The block that a node should get next: one that it had before (the latest first, so that returning clients find their
 * addresses), else the first that nobody ever had, else the one that is free the longest. Undefined: nothing is left.
 * `known` holds every block of the family in the pool that was ever granted, those of other lengths too; no
 * block that has a `reserved` address in it is granted.
 */
export function chooseBlock(
  { prefixes, blockLength }: PoolLayout,
  { family, node, remembers }: BlockWish,
  known: ReadonlyMap<string, BlockAggregate>,
  reserved: readonly IpPrefix[],
  now: number,
): BlockAggregate | undefined {
  const space = prefixes.filter(({ address }) => address.family === family);
  const whole = blockLength[family];
  const smallest = Math.max(whole, SMALLEST_BLOCK[family]);
  const taken = [...reserved];
  const free: FreeBlock[] = [];
  const own: FreeBlock[] = [];
  for (const { block, state } of known.values()) {
    const prefix = parsePrefix(block);
    if (state.status === 'granted') {
      taken.push(prefix);
      continue;
    }
    const { previousNode } = state;
    const freedAt = state.freedAt ?? Number.NEGATIVE_INFINITY;
    const rests = now < freedAt + BLOCK_REST_MS;
    if (rests) taken.push(prefix);
    else free.push({ prefix, previousNode, freedAt });
    if (previousNode === node && (!rests || remembers)) own.push({ prefix, previousNode, freedAt });
  }
  const isUsable = ({ prefix }: FreeBlock) =>
    prefix.length >= whole &&
    prefix.length <= smallest &&
    space.some((pool) => prefixCovers(pool, prefix)) &&
    !taken.some((other) => prefixesOverlap(other, prefix) && !isSame(other, prefix));
  const previous = own.toSorted((a, b) => b.freedAt - a.freedAt).find(isUsable);
  const chosen = previous?.prefix ?? chooseNew({ space, known, whole, smallest, taken, free });
  if (chosen === undefined) return undefined;
  const pool = space.find((candidate) => prefixCovers(candidate, chosen));
  if (pool === undefined) return undefined;
  const name = formatPrefix(chosen);
  const poolName = formatPrefix(pool);
  // The pool may have another prefix than when the block was granted last.
  return { ...(known.get(name) ?? newBlock(name, poolName)), pool: poolName };
}

interface Supply {
  readonly space: readonly IpPrefix[];
  readonly known: ReadonlyMap<string, BlockAggregate>;
  readonly whole: number;
  readonly smallest: number;
  readonly taken: readonly IpPrefix[];
  readonly free: readonly FreeBlock[];
}

function chooseNew({ space, known, whole, smallest, taken, free }: Supply): IpPrefix | undefined {
  const room = freeSpace(space, taken);
  const largest = sizeOf(room) / MAX_SHARE_OF_FREE;
  for (let length = whole; length <= smallest; length++) {
    const block = bestFit(room, length);
    if (block === undefined) continue;
    if (prefixSize(block) > largest && length < smallest) continue;
    // A part of a block is cut from what is broken already, where possible.
    if (length > whole) return block;
    const everGranted = [...known.keys()].map(parsePrefix);
    const fresh = bestFit(freeSpace(space, everGranted), length);
    if (fresh !== undefined) return fresh;
    const oldest = free
      .filter(({ prefix }) => prefix.length === length)
      .sort((a, b) => a.freedAt - b.freedAt)
      .find(({ prefix }) => room.some((candidate) => prefixCovers(candidate, prefix)));
    return oldest?.prefix ?? block;
  }
  return undefined;
}

function isSame(a: IpPrefix, b: IpPrefix): boolean {
  return a.length === b.length && a.address.value === b.address.value;
}
