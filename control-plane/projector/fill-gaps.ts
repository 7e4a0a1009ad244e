import { sql } from 'kysely';
import type { DatabaseTransaction } from '../storage/database.ts';
import type { EpochState } from './sequence.ts';

/**
 * Takes out of `event_gaps` what came of the ends of replaced spools after all, e.g. because the lost disk is back. `states` are
 * those that are about to be stored.
 */
export async function fillGaps(trx: DatabaseTransaction, states: readonly EpochState[]): Promise<void> {
  if (states.length === 0) return;
  const of = <K extends keyof EpochState>(key: K) => states.map((state) => state[key]);
  await sql`
    WITH progress AS (
      SELECT e.node, e.epoch, e.applied_seq AS before, s.applied_seq AS now
      FROM unnest(${of('node')}::text[], ${of('epoch')}::text[], ${of('appliedSeq')}::bigint[])
        AS s (node, epoch, applied_seq)
      JOIN node_epochs e ON e.node = s.node AND e.epoch = s.epoch
    ), filled AS (
      DELETE FROM event_gaps g USING progress p
      WHERE g.node = p.node AND g.epoch = p.epoch AND g.to_seq > p.before AND g.to_seq <= p.now
    )
    UPDATE event_gaps g SET from_seq = p.now + 1 FROM progress p
    WHERE g.node = p.node AND g.epoch = p.epoch AND g.from_seq > p.before AND g.from_seq <= p.now AND g.to_seq > p.now
    `.execute(trx);
}
