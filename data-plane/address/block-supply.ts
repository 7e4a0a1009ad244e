import type { AddressFamily } from '../../shared/ip/address.ts';
import { assignableCount } from '../../shared/ip/block.ts';
import type { AddressBook } from './address-book.ts';
import { needsMore } from './block-leases.ts';
import type { ShardBlock } from './shard-block.ts';

/** Where addresses are wanted: for the clients of one pool in one shard. */
export interface Supply {
  readonly pool: string;
  readonly family: AddressFamily;
  readonly shard: number;
}

/**
 * A block of another shard in which nobody has an address: one that the other shard can do without or, where a client waits, any. To
 * take the only one without need would send it to and fro.
 */
export function findSpare(
  blocks: readonly ShardBlock[],
  book: AddressBook,
  { pool, family, shard }: Supply,
  isUrgent: boolean,
): ShardBlock | undefined {
  const idle = blocks.filter(
    (held) =>
      held.poolName === pool && held.block.address.family === family && held.shard !== shard && book.isIdle(held),
  );
  const isSurplus = (held: ShardBlock) => {
    const { free, total } = book.count(family, held.shard, pool);
    const size = assignableCount(held);
    return !needsMore({ free: free - size, total: total - size });
  };
  return idle.find(isSurplus) ?? (isUrgent ? idle[0] : undefined);
}
