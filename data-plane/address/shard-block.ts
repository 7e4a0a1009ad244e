import type { PoolBlock } from '../../shared/ip/block.ts';

/** A block of this node, and the shard whose clients get its addresses: packets to it are routed there. */
export interface ShardBlock extends PoolBlock {
  readonly shard: number;
  /** The pool, as administrators call it: only clients of this pool get its addresses. */
  readonly poolName: string;
}
