import { sql } from 'kysely';
import type { AddressFamily } from '../../shared/ip/address.ts';
import { ADDRESS_REST_MS, assignableCount, poolCapacity } from '../../shared/ip/block.ts';
import { formatPrefix, type IpPrefix, parsePrefix, prefixCovers } from '../../shared/ip/prefix.ts';
import type { Database } from '../storage/database.ts';
import type { PoolLayout } from './choose-block.ts';

/** One pool in client addresses. Numbers beyond 2^53 (IPv6) are rounded. */
export interface PoolUsage {
  readonly prefix: string;
  readonly family: AddressFamily;
  readonly blockPrefix: number;
  /** All that clients can get when every block is granted. */
  readonly total: number;
  /** Those in blocks that nodes hold now. */
  readonly granted: number;
  /** Held by clients, or resting at their nodes. */
  readonly used: number;
  /** `total` less `used`. */
  readonly available: number;
}

export interface PoolTotals {
  readonly total: number;
  readonly used: number;
}

export async function readPoolUsage(database: Database, layout: PoolLayout): Promise<PoolUsage[]> {
  const granted = await sql<{ block: string }>`
    SELECT block::text FROM block_states WHERE node IS NOT NULL`.execute(database);
  const used = await sql<{ block: string; addresses: number }>`
    SELECT block::text, count(*) AS addresses FROM held
    WHERE released_at IS NULL OR released_at > clock_timestamp() - ${ADDRESS_REST_MS} * interval '1 millisecond'
    GROUP BY block`.execute(database);
  const grantedBlocks = granted.rows.map(({ block }) => parsePrefix(block));
  const usedBlocks = used.rows.map(({ block, addresses }) => ({ block: parsePrefix(block), addresses }));
  return layout.pools.map((pool) => usageOf(pool, layout, grantedBlocks, usedBlocks));
}

/**
 * What the masque_vpn_ip_pool families say: the IPv4 pools; without any, the granted IPv6 addresses, because a share of
 * 2^64 would be no figure that anybody could act on.
 */
export function totalOfPools(pools: readonly PoolUsage[]): PoolTotals {
  const four = pools.filter(({ family }) => family === 4);
  const relevant = four.length > 0 ? four : pools;
  return {
    total: relevant.reduce((sum, { total, granted }) => sum + (four.length > 0 ? total : granted), 0),
    used: relevant.reduce((sum, { used }) => sum + used, 0),
  };
}

function usageOf(
  pool: IpPrefix,
  layout: PoolLayout,
  grantedBlocks: readonly IpPrefix[],
  usedBlocks: ReadonlyArray<{ block: IpPrefix; addresses: number }>,
): PoolUsage {
  const { family } = pool.address;
  const blockPrefix = layout.blockLength[family];
  const total = Number(poolCapacity(pool, blockPrefix));
  let granted = 0n;
  for (const block of grantedBlocks) if (prefixCovers(pool, block)) granted += assignableCount({ pool, block });
  let used = 0;
  for (const { block, addresses } of usedBlocks) if (prefixCovers(pool, block)) used += addresses;
  const available = Math.max(0, total - used);
  return { prefix: formatPrefix(pool), family, blockPrefix, total, granted: Number(granted), used, available };
}
