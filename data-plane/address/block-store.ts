import type { DatabaseSync } from 'node:sqlite';
import { formatPrefix, parsePrefix } from '../../shared/ip/prefix.ts';
import type { BlockLeases, Lease } from './block-leases.ts';
import { dealBlocks } from './deal-blocks.ts';

/**
 * Takes over the leases of an earlier process, which may have had another number of shards. Those of another boot have no comparable clock
 * and must be renewed first.
 */
export function restoreLeases(db: DatabaseSync, leases: BlockLeases, bootId: string, shards: number): void {
  const rows = db.prepare('SELECT block, pool, pool_name, shard, lease_ms, lease_end_ms, boot_id FROM blocks').all();
  const stored = rows.map((row) => ({
    pool: parsePrefix(String(row.pool)),
    poolName: String(row.pool_name),
    block: parsePrefix(String(row.block)),
    shard: Number(row.shard),
    leaseMs: Number(row.lease_ms),
    endsAt: row.boot_id === bootId ? Number(row.lease_end_ms) : undefined,
  }));
  const shardOf = new Map(dealBlocks(stored, shards).map(({ block, shard }) => [block, shard]));
  for (const { pool, poolName, block, leaseMs, endsAt } of stored) {
    leases.restored({ pool, poolName, block, shard: shardOf.get(block) ?? 0 }, leaseMs, endsAt);
  }
}

/** Whether an earlier process left a trace of addresses that it handed out. */
export function hasAssignments(db: DatabaseSync): boolean {
  return db.prepare('SELECT 1 FROM assignments LIMIT 1').get() !== undefined;
}

export function saveLease(db: DatabaseSync, { poolBlock, leaseMs, endsAt }: Lease, bootId: string): void {
  const { block, pool, poolName, shard } = poolBlock;
  db.prepare(
    `INSERT OR REPLACE INTO blocks (block, pool, pool_name, shard, lease_ms, lease_end_ms, boot_id)
     VALUES (?, ?, ?, ?, ?, ?, ?)`,
  ).run(formatPrefix(block), formatPrefix(pool), poolName, shard, leaseMs, endsAt, bootId);
}

export function deleteLease(db: DatabaseSync, block: string): void {
  db.prepare('DELETE FROM blocks WHERE block = ?').run(block);
}
