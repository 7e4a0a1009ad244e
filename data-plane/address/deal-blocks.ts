import { formatPrefix } from '../../shared/ip/prefix.ts';
import type { ShardBlock } from './shard-block.ts';

/**
 * Which shard has which block after a restart, when nobody has an address: each keeps its own, and those of shards that are no more go
 * to the ones with the fewest. A shard that has none of a pool's family then gets one of the shard with the most, if that keeps another.
 */
export function dealBlocks(blocks: readonly ShardBlock[], shards: number): ShardBlock[] {
  const sorted = [...blocks].sort((a, b) => formatPrefix(a.block).localeCompare(formatPrefix(b.block)));
  const groups = Map.groupBy(sorted, ({ poolName, block }) => `${poolName} ${block.address.family}`);
  return [...groups.values()].flatMap((group) => deal(group, shards));
}

function deal(blocks: readonly ShardBlock[], shards: number): ShardBlock[] {
  const hands: ShardBlock[][] = Array.from({ length: shards }, () => []);
  const extreme = (isBetter: (a: number, b: number) => boolean) =>
    hands.reduce((best, hand) => (isBetter(hand.length, best.length) ? hand : best));
  for (const held of blocks) hands[held.shard]?.push(held);
  for (const held of blocks) if (held.shard >= shards) extreme((a, b) => a < b).push(held);
  for (const hand of hands) {
    const most = extreme((a, b) => a > b);
    const spare = hand.length === 0 && most.length > 1 ? most.pop() : undefined;
    if (spare !== undefined) hand.push(spare);
  }
  return hands.flatMap((hand, shard) => hand.map((held) => ({ ...held, shard })));
}
