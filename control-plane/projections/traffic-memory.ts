import { sql } from 'kysely';
import type { DatabaseTransaction } from '../storage/database.ts';

/** Ours: partitions are made when there is room for less than this many positions; far less than one of them holds. */
const POSITIONS_AHEAD = 100_000;

/** Knows up to which position `traffic` has partitions, and counts what is written to it. */
export class TrafficMemory {
  /** Since it was made, rows of transactions that were rolled back included. */
  rowsWritten = 0;
  private through = 0;

  async ensurePartitions(trx: DatabaseTransaction, position: number): Promise<void> {
    if (position + POSITIONS_AHEAD <= this.through) return;
    const { rows } = await sql<{ through: number }>`
      SELECT ensure_traffic_partitions(${position}::bigint) AS through`.execute(trx);
    this.through = rows[0]!.through;
  }

  forget(): void {
    this.through = 0;
  }
}
