import type { AddressFamily } from '../../shared/ip/address.ts';
import { ADDRESS_REST_MS, blockAt, blockCount } from '../../shared/ip/block.ts';
import {
  formatPrefix,
  type IpPrefix,
  lastAddress,
  parsePrefix,
  prefixCovers,
  prefixesOverlap,
  prefixSize,
} from '../../shared/ip/prefix.ts';
import { type BlockAggregate, newBlock } from './block-aggregate.ts';

/** A returned block goes to nobody for this long, so that the addresses released with it rest before reuse. */
export const BLOCK_REST_MS = ADDRESS_REST_MS;

/** The pools and the lengths of the blocks that they are split into, as configured. */
export interface PoolLayout {
  readonly pools: readonly IpPrefix[];
  readonly blockLength: Readonly<Record<AddressFamily, number>>;
}

/**
 * The block that a node should get next: one that it had before (the latest first, so that returning clients find their
 * addresses), else the first that nobody ever had, else the one that is free the longest. Undefined: none is left.
 * `known` holds every block of the family that was ever granted, those of former layouts too; no block that has a `reserved` address
 * in it is granted.
 */
export function chooseBlock(
  layout: PoolLayout,
  family: AddressFamily,
  known: ReadonlyMap<string, BlockAggregate>,
  node: string,
  now: number,
  reserved: readonly IpPrefix[],
): BlockAggregate | undefined {
  const pools = layout.pools.filter((pool) => pool.address.family === family);
  const blockLength = layout.blockLength[family];
  const obstacles = [...grantedInOtherLayouts(known.values(), blockLength), ...reserved];
  const obstacle = (block: IpPrefix) => obstacles.find((other) => prefixesOverlap(other, block));
  const fits = (block: IpPrefix) =>
    block.length === blockLength && pools.some((pool) => prefixCovers(pool, block)) && !obstacle(block);

  const usable: Array<{ aggregate: BlockAggregate; previousNode: string | null; freedAt: number }> = [];
  for (const aggregate of known.values()) {
    const { state } = aggregate;
    if (state.status !== 'free' || state.freedAt === null || now < state.freedAt + BLOCK_REST_MS) continue;
    if (!fits(parsePrefix(aggregate.block))) continue;
    usable.push({ aggregate, previousNode: state.previousNode, freedAt: state.freedAt });
  }
  usable.sort((a, b) => a.freedAt - b.freedAt);
  return (
    usable.findLast(({ previousNode }) => previousNode === node)?.aggregate ??
    firstUnused(pools, blockLength, known, obstacle) ??
    usable[0]?.aggregate
  );
}

function firstUnused(
  pools: readonly IpPrefix[],
  blockLength: number,
  known: ReadonlyMap<string, BlockAggregate>,
  obstacle: (block: IpPrefix) => IpPrefix | undefined,
): BlockAggregate | undefined {
  for (const pool of pools) {
    const count = blockCount(pool, blockLength);
    let index = 0n;
    while (index < count) {
      const block = blockAt(pool, blockLength, index);
      const inTheWay = obstacle(block);
      if (!inTheWay) {
        const name = formatPrefix(block);
        if (!known.has(name)) return newBlock(name, formatPrefix(pool));
        index += 1n;
      } else {
        // One large grant can cover more small blocks than a loop should visit.
        const next = lastAddress(inTheWay).value + 1n - pool.address.value;
        index = (next + prefixSize(block) - 1n) / prefixSize(block);
      }
    }
  }
  return undefined;
}

/** Grants of another block length, from before a change of configuration: what overlaps them waits for their end. */
function grantedInOtherLayouts(known: Iterable<BlockAggregate>, blockLength: number): IpPrefix[] {
  const foreign: IpPrefix[] = [];
  for (const { block, state } of known) {
    if (state.status !== 'granted' || block.endsWith(`/${blockLength}`)) continue;
    foreign.push(parsePrefix(block));
  }
  return foreign;
}
