import type { Kysely } from 'kysely';
import { commentOn } from './comment-on.ts';

/** Says what the changes of the admin commands look like. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const columns = {
    actor:
      'Name of the admin token; cli: and a user of the operating system for an admin command; configuration for what the control plane was started with, control-plane for its own decisions.',
    subject_kind: 'What was changed: client, pool, dead_letter.',
    change: 'The new values; of a dead letter the event that it is, and its position in the log.',
  };
  const is = 'Changes to clients and pools, and dead letters that were applied';
  await commentOn(db, {
    admin_events: {
      is: `Every event that somebody caused by name. ${is}. Auditors read it as admin_changes.`,
      columns,
    },
  });
  await commentOn(db, { admin_changes: { is: `${is}, and who did it.`, columns } }, 'VIEW');
}
