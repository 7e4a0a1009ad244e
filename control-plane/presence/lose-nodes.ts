import { sql } from 'kysely';
import type { NewEvent } from '../../shared/events/envelope.ts';
import { type DecisionContext, decideInTransaction } from '../leader/decide-in-transaction.ts';
import type { Term } from '../storage/term.ts';
import { effectiveState } from './node-states.ts';

export interface LostNode {
  readonly node: string;
  /** How many connections were presumed closed with it. */
  readonly connections: number;
}

/**
 * Declares nodes lost and presumes their open connections closed, in one transaction. A node that is not up any more when
 * the transaction has its turn is left out. Their blocks stay with them until the leases end.
 */
export function loseNodes(
  context: DecisionContext,
  term: Pick<Term, 'ownerEpoch'>,
  nodes: readonly string[],
): Promise<LostNode[]> {
  return decideInTransaction(context, term, async (trx, now) => {
    const at = new Date(now).toISOString();
    const { rows: silent } = await sql<{ node: string; incarnation: string; last_seen_at: Date | null }>`
      SELECT n.node, n.incarnation, p.last_seen_at FROM nodes n LEFT JOIN node_presence p USING (node)
      WHERE n.node = ANY(${nodes}::text[]) AND ${effectiveState} IN ('up', 'draining')
      ORDER BY n.node`.execute(trx);
    const open = await trx
      .selectFrom('connections')
      .select(['connection_id', 'client_id', 'node'])
      .where('node', 'in', silent.length === 0 ? [''] : silent.map(({ node }) => node))
      .where('state', '=', 'open')
      .orderBy('connection_id')
      .execute();
    const events: NewEvent[] = [];
    for (const { node, incarnation, last_seen_at } of silent) {
      events.push({
        type: 'node.lost',
        at,
        data: { node, incarnation, lastSeenAt: last_seen_at?.toISOString() ?? null },
      });
    }
    for (const { connection_id: connectionId, client_id: clientId, node } of open) {
      const data = { connectionId, clientId, node, reason: 'node_lost' } as const;
      events.push({ type: 'connection.presumed_closed', at, data });
    }
    const countOf = (name: string) => open.filter(({ node }) => node === name).length;
    return {
      events: events.map((event) => ({ event })),
      result: silent.map(({ node }) => ({ node, connections: countOf(node) })),
    };
  });
}
