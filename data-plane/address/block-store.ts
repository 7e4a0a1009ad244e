import type { DatabaseSync } from 'node:sqlite';
import { formatPrefix, parsePrefix } from '../../shared/ip/prefix.ts';
import type { BlockLeases, Lease } from './block-leases.ts';
import { dealBlocks } from './deal-blocks.ts';

/**
 * Takes over the leases of an earlier process, which may have had another number of shards. Those of another boot have no comparable clock
 * and must be renewed first.
 */
export function restoreLeases(db: DatabaseSync, leases: BlockLeases, bootId: string, shards: number): void {
  const rows = db.prepare('SELECT block, pool, shard, lease_ms, lease_end_ms, boot_id FROM blocks').all();
  const stored = rows.map((row) => ({
    pool: parsePrefix(String(row.pool)),
    block: parsePrefix(String(row.block)),
    shard: Number(row.shard),
    leaseMs: Number(row.lease_ms),
    endsAt: row.boot_id === bootId ? Number(row.lease_end_ms) : undefined,
  }));
  const shardOf = new Map(dealBlocks(stored, shards).map(({ block, shard }) => [block, shard]));
  for (const { pool, block, leaseMs, endsAt } of stored) {
    leases.restored({ pool, block, shard: shardOf.get(block) ?? 0 }, leaseMs, endsAt);
  }
}

export function saveLease(db: DatabaseSync, { poolBlock, leaseMs, endsAt }: Lease, bootId: string): void {
  db.prepare(
    'INSERT OR REPLACE INTO blocks (block, pool, shard, lease_ms, lease_end_ms, boot_id) VALUES (?, ?, ?, ?, ?, ?)',
  ).run(formatPrefix(poolBlock.block), formatPrefix(poolBlock.pool), poolBlock.shard, leaseMs, endsAt, bootId);
}

export function deleteLease(db: DatabaseSync, block: string): void {
  db.prepare('DELETE FROM blocks WHERE block = ?').run(block);
}
