import { type RawBuilder, sql } from 'kysely';

/**
 * The state of a node as everybody is told it, from `nodes n LEFT JOIN node_presence p`. The log knows nothing of presence:
 * a node that was declared lost and is heard again, by the same process, is up from then on, before its next event says so.
 */
export const effectiveState: RawBuilder<NodeState> = sql`CASE
  WHEN n.state = 'lost' AND p.incarnation = n.incarnation AND p.last_seen_at > n.lost_at THEN 'up' ELSE n.state END`;

export type NodeState = 'up' | 'draining' | 'lost' | 'stopped';
