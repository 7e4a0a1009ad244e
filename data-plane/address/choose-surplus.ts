import { assignableCount } from '../../shared/ip/block.ts';
import { formatPrefix } from '../../shared/ip/prefix.ts';
import type { ShardBlock } from './shard-block.ts';

/** A block, and how many of its addresses are assigned or rest. */
export interface BlockUse {
  readonly held: ShardBlock;
  readonly used: bigint;
}

/**
 * The block that a shard can best do without, of those that it has of one family of a pool: the emptiest, as long as half of the others'
 * addresses are free. That is more than the quarter below which it asks for more, so that no block goes to and fro. The last one goes
 * only where `mayGoWithout`, when nobody has an address.
 */
export function chooseSurplus(blocks: readonly BlockUse[], mayGoWithout: boolean): ShardBlock | undefined {
  const [emptiest] = blocks.toSorted((a, b) => compare(a.used, b.used) || compareText(b.held, a.held));
  if (emptiest === undefined) return undefined;
  const others = blocks.filter((block) => block !== emptiest);
  if (others.length === 0) return mayGoWithout && emptiest.used === 0n ? emptiest.held : undefined;
  const total = others.reduce((sum, { held }) => sum + assignableCount(held), 0n);
  // Those that are in the emptiest are counted in: they come back to one of the others.
  const used = blocks.reduce((sum, block) => sum + block.used, 0n);
  return used * 2n <= total ? emptiest.held : undefined;
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : Number(a > b);
}

/** Of equally empty ones the last goes, in one order always. */
function compareText(a: ShardBlock, b: ShardBlock): number {
  return formatPrefix(a.block).localeCompare(formatPrefix(b.block));
}
