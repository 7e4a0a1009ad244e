import { sql } from 'kysely';
import type { AddressFamily } from '../../shared/ip/address.ts';
import { ADDRESS_REST_MS, assignableCount, poolCapacity } from '../../shared/ip/block.ts';
import {
  formatPrefix,
  type IpPrefix,
  isHostPrefix,
  parsePrefix,
  prefixAround,
  prefixCovers,
} from '../../shared/ip/prefix.ts';
import type { Database } from '../storage/database.ts';
import type { PoolAggregate } from './pool-aggregate.ts';
import { loadPools } from './pool-store.ts';
import { readExhaustion } from './usage-history.ts';

/** One family of one pool, in client addresses. Numbers beyond 2^53 (IPv6) are rounded. */
export interface PoolUsage {
  readonly pool: string;
  readonly state: 'active' | 'retiring';
  readonly family: AddressFamily;
  readonly prefixes: readonly string[];
  readonly blockPrefix: number;
  /** All that clients can get when every block is granted. */
  readonly total: number;
  /** Those in blocks that nodes hold now. */
  readonly granted: number;
  /** Held by clients, or resting at their nodes. */
  readonly used: number;
  /** `total` less `used`; nothing of a pool that retires. */
  readonly available: number;
  /** Until nothing is available if use grows on as in the last hour; null where it does not grow, or too little is known. */
  readonly exhaustionSeconds: number | null;
}

export interface PoolTotals {
  readonly total: number;
  readonly used: number;
}

interface Block {
  readonly prefix: IpPrefix;
  readonly used: number;
}

/** Every family of every pool that is not retired. Addresses rest by Postgres' clock, unless it is said what time it is. */
export async function readPoolUsage(database: Database, at?: Date): Promise<PoolUsage[]> {
  const now = at === undefined ? sql`clock_timestamp()` : sql`${at}::timestamptz`;
  const pools = await loadPools(database);
  const granted = await sql<{ block: string }>`
    SELECT block::text FROM block_states WHERE node IS NOT NULL`.execute(database);
  const used = await sql<{ block: string; addresses: number }>`
    SELECT block::text, count(*) AS addresses FROM held
    WHERE released_at IS NULL OR released_at > ${now} - ${ADDRESS_REST_MS} * interval '1 millisecond'
    GROUP BY block`.execute(database);
  const grantedBlocks = granted.rows.map(({ block }) => parsePrefix(block));
  const usedBlocks = used.rows.map(({ block, addresses }) => ({ prefix: parsePrefix(block), used: addresses }));
  const usages = pools.flatMap((pool) => usagesOf(pool, grantedBlocks, usedBlocks));
  return await readExhaustion(database, usages);
}

/**
 * What the masque_vpn_ip_pool families say: the IPv4 pools; without any, the granted IPv6 addresses, because a share of
 * 2^64 would be no figure that anybody could act on.
 */
export function totalOfPools(usages: readonly PoolUsage[]): PoolTotals {
  const four = usages.filter(({ family }) => family === 4);
  const relevant = four.length > 0 ? four : usages;
  return {
    // Of a pool that retires only what is in use counts: the rest is nobody's to get.
    total: relevant.reduce(
      (sum, { granted, used, available }) => sum + (four.length > 0 ? used + available : granted),
      0,
    ),
    used: relevant.reduce((sum, { used }) => sum + used, 0),
  };
}

function usagesOf(
  { name, layout, state }: PoolAggregate,
  grantedBlocks: readonly IpPrefix[],
  usedBlocks: readonly Block[],
): PoolUsage[] {
  if (state.status === 'unknown' || state.status === 'retired') return [];
  const { status } = state;
  return ([4, 6] as const).flatMap((family) => {
    const prefixes = layout.prefixes.filter(({ address }) => address.family === family);
    if (prefixes.length === 0) return [];
    const blockPrefix = layout.blockLength[family];
    let total = 0n;
    let granted = 0n;
    let used = 0;
    for (const pool of prefixes) {
      const blocks = grantedBlocks.filter((block) => prefixCovers(pool, block));
      total += poolCapacity(pool, blockPrefix) - extraNodeAddresses(blocks, blockPrefix);
      for (const block of blocks) granted += assignableCount({ pool, block });
      for (const block of usedBlocks) if (prefixCovers(pool, block.prefix)) used += block.used;
    }
    const available = status === 'active' ? Math.max(0, Number(total) - used) : 0;
    const counts = { total: Number(total), granted: Number(granted), used, available };
    const pool = { pool: name, state: status, family, prefixes: prefixes.map(formatPrefix), blockPrefix };
    return [{ ...pool, ...counts, exhaustionSeconds: null }];
  });
}

/** A node keeps one address of each block, also of those that are only a part of a whole one. */
function extraNodeAddresses(granted: readonly IpPrefix[], blockPrefix: number): bigint {
  const parts = granted.filter((block) => block.length > blockPrefix && !isHostPrefix(block));
  const wholes = new Set(parts.map((part) => formatPrefix(prefixAround(part, blockPrefix))));
  return BigInt(parts.length - wholes.size);
}
