import { sql } from 'kysely';
import type { DatabaseTransaction } from '../storage/database.ts';
import type { SummedRound } from './summed-round.ts';
import { TrafficSums } from './traffic-sums.ts';

/** Ours: partitions are made when there is room for less than this many positions; far less than one of them holds. */
const POSITIONS_AHEAD = 100_000;

/** Knows up to which position `traffic` has partitions, and what was written to it lately. */
export class TrafficMemory {
  readonly sums = new TrafficSums();
  /** Sums of earlier rows, while they are folded. */
  round: SummedRound | undefined;
  private through = 0;

  async ensurePartitions(trx: DatabaseTransaction, position: number): Promise<void> {
    if (position + POSITIONS_AHEAD <= this.through) return;
    const { rows } = await sql<{ through: number }>`
      SELECT ensure_traffic_partitions(${position}::bigint) AS through`.execute(trx);
    this.through = rows[0]!.through;
  }

  forget(): void {
    this.through = 0;
    this.sums.forget();
    this.round = undefined;
  }
}
