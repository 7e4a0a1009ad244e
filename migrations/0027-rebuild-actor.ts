import type { Kysely } from 'kysely';
import { commentOn } from './comment-on.ts';

/** Says what a rebuild looks like among the changes of the admin commands. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const columns = {
    subject_kind:
      'What was changed: client, pool, dead_letter, or projections: all tables that auditors read, made anew from the log.',
    subject_id: 'Which one; empty for projections.',
    change:
      'The new values; of a dead letter the event that it is, and its position in the log; of projections the position up to which they were projected before they took the place of the former ones, and from: behind which position that began (0 is the beginning), or went on (resumed) after a rebuild that broke off.',
  };
  const is =
    'Changes to clients and pools, dead letters that were applied, and rebuilds of the tables that auditors read';
  await commentOn(db, {
    admin_events: {
      is: `Every event that somebody caused by name. ${is}. Auditors read it as admin_changes.`,
      columns,
    },
  });
  await commentOn(db, { admin_changes: { is: `${is}, and who did it.`, columns } }, 'VIEW');
}
