import type { DatabaseSync } from 'node:sqlite';
import { formatPrefix, parsePrefix } from '../../shared/ip/prefix.ts';
import type { BlockLeases, Lease } from './block-leases.ts';

/** Takes over the leases of an earlier process. Those of another boot have no comparable clock and must be renewed first. */
export function restoreLeases(db: DatabaseSync, leases: BlockLeases, bootId: string): void {
  for (const row of db.prepare('SELECT block, pool, lease_ms, lease_end_ms, boot_id FROM blocks').all()) {
    const poolBlock = { pool: parsePrefix(String(row.pool)), block: parsePrefix(String(row.block)) };
    const endsAt = row.boot_id === bootId ? Number(row.lease_end_ms) : undefined;
    leases.restored(poolBlock, Number(row.lease_ms), endsAt);
  }
}

export function saveLease(db: DatabaseSync, { poolBlock, leaseMs, endsAt }: Lease, bootId: string): void {
  db.prepare('INSERT OR REPLACE INTO blocks (block, pool, lease_ms, lease_end_ms, boot_id) VALUES (?, ?, ?, ?, ?)').run(
    formatPrefix(poolBlock.block),
    formatPrefix(poolBlock.pool),
    leaseMs,
    endsAt,
    bootId,
  );
}

export function deleteLease(db: DatabaseSync, block: string): void {
  db.prepare('DELETE FROM blocks WHERE block = ?').run(block);
}
