import type { Kysely } from 'kysely';
import { commentOnColumns } from './comment-on.ts';

/** Says of `actor` all that it can be. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const actor =
    'Name of the admin token; configuration for what the control plane was started with, control-plane for its own decisions.';
  await commentOnColumns(db, { admin_events: { actor }, admin_changes: { actor } });
}
