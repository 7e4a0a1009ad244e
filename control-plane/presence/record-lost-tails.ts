import { sql } from 'kysely';
import type { Database } from '../storage/database.ts';
import { checkOwnerEpoch, lockProjections } from '../storage/projection-lock.ts';
import type { Term } from '../storage/term.ts';

/** Events `from_seq` to `to_seq` of a spool that its node does not use any more. */
export interface LostTail {
  readonly node: string;
  readonly epoch: string;
  readonly from_seq: number;
  readonly to_seq: number;
}

/**
 * Ends of spools that their nodes told of, that never came, and that are no gap yet, of spools which another one has taken the
 * place of: its first event is projected, so whatever the stream had of the one before is too. One of which nothing came
 * at all may also be one that its node has just begun: it has to be heard with the other one.
 */
const lostTails = sql`
  SELECT r.node, r.epoch, coalesce(e.applied_seq, 0) + 1 AS from_seq, r.last_seq AS to_seq, newer.epoch AS replaced_by
  FROM spool_reports r
  JOIN node_presence p ON p.node = r.node AND p.epoch <> r.epoch
  JOIN node_epochs newer ON newer.node = r.node AND newer.current AND newer.epoch <> r.epoch
  LEFT JOIN node_epochs e ON e.node = r.node AND e.epoch = r.epoch
  WHERE r.last_seq > coalesce(e.applied_seq, 0) AND (e.node IS NOT NULL OR newer.epoch = p.epoch)
    AND NOT EXISTS (SELECT FROM event_gaps g WHERE g.node = r.node AND g.epoch = r.epoch AND g.to_seq >= r.last_seq)`;

/** Makes the ends of spools that are lost rows of `event_gaps`, and returns them. Throws NotLeaderError. */
export async function recordLostTails(database: Database, term: Pick<Term, 'ownerEpoch'>): Promise<LostTail[]> {
  const { rows } = await sql`${lostTails} LIMIT 1`.execute(database);
  if (rows.length === 0) return [];
  return await database.transaction().execute(async (trx) => {
    await lockProjections(trx);
    await checkOwnerEpoch(trx, term.ownerEpoch);
    const { rows: lost } = await sql<LostTail>`
      WITH lost AS MATERIALIZED (${lostTails}), unseen AS (
        INSERT INTO node_epochs (node, epoch, applied_seq, current) SELECT node, epoch, 0, false FROM lost
        ON CONFLICT (node, epoch) DO NOTHING
      )
      INSERT INTO event_gaps (node, epoch, from_seq, to_seq, replaced_by)
      SELECT node, epoch, from_seq, to_seq, replaced_by FROM lost
      ON CONFLICT (node, epoch, from_seq) DO UPDATE SET to_seq = excluded.to_seq
      RETURNING node, epoch, from_seq, to_seq`.execute(trx);
    return lost;
  });
}
