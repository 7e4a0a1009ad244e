import { sql } from 'kysely';
import { effectiveState, type NodeState } from '../presence/node-states.ts';
import type { Database } from '../storage/database.ts';

export interface NodeView {
  readonly id: string;
  readonly state: NodeState;
  readonly activeConnections: number;
  /** Newest sign of life: presence or event. */
  readonly lastSeenAt: string;
  readonly softwareVersion: string | null;
  readonly listen: string | null;
  readonly tunnelMtu: number | null;
  readonly startedAt: string | null;
  readonly incarnation: string;
}

export async function listNodes(database: Database): Promise<NodeView[]> {
  const { rows } = await sql<{
    node: string;
    state: NodeState;
    connections: number;
    last_seen_at: Date;
    software_version: string | null;
    listen: string | null;
    tunnel_mtu: number | null;
    started_at: Date | null;
    incarnation: string;
  }>`
    SELECT n.node, ${effectiveState} AS state, n.software_version, n.listen, n.tunnel_mtu, n.started_at, n.incarnation,
      greatest(n.last_event_at, p.last_seen_at) AS last_seen_at,
      (SELECT count(*) FROM connections c WHERE c.node = n.node AND c.state = 'open') AS connections
    FROM nodes n LEFT JOIN node_presence p USING (node) ORDER BY n.node`.execute(database);
  return rows.map((row) => ({
    id: row.node,
    state: row.state,
    activeConnections: row.connections,
    lastSeenAt: row.last_seen_at.toISOString(),
    softwareVersion: row.software_version,
    listen: row.listen,
    tunnelMtu: row.tunnel_mtu,
    startedAt: row.started_at?.toISOString() ?? null,
    incarnation: row.incarnation,
  }));
}
