import { sql } from 'kysely';
import { recentWindows } from '../projections/recent-windows.ts';
import type { Database } from '../storage/database.ts';

export interface ConnectionFilter {
  readonly state?: 'open' | 'presumed' | 'closed';
  readonly clientId?: string;
  readonly nodeId?: string;
  readonly limit: number;
}

/** `In` from the client, `Out` to it. Gauges are of the last window of an open connection, if it is fresh. */
export interface ConnectionView {
  readonly id: string;
  readonly clientId: string;
  readonly nodeId: string;
  readonly state: 'open' | 'presumed' | 'closed';
  readonly reason: string | null;
  readonly transport: string | null;
  readonly addresses: readonly string[];
  readonly remoteAddress: string | null;
  readonly remotePort: number | null;
  readonly establishedAt: string | null;
  readonly closedAt: string | null;
  readonly durationMs: number | null;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly packetsIn: number;
  readonly packetsOut: number;
  readonly rttMs: number | null;
  readonly throughputInMbps: number | null;
  readonly throughputOutMbps: number | null;
  readonly lossPercent: number | null;
}

/** The newest connections that match, newest first; those whose begin is unknown last, as their index has them. */
export function newestConnections(database: Database, filter: ConnectionFilter) {
  let query = database
    .selectFrom('connections as c')
    .selectAll('c')
    .select([
      sql<string | null>`host(c.remote_address)`.as('remote_host'),
      sql<string[]>`ARRAY(SELECT host(a.address) FROM address_assignments a
        WHERE a.connection_id = c.connection_id ORDER BY a.assigned_position)`.as('addresses'),
    ])
    .orderBy(sql`c.established_at DESC NULLS LAST`)
    .orderBy('c.connection_id')
    .limit(filter.limit);
  if (filter.state !== undefined) query = query.where('c.state', '=', filter.state);
  if (filter.clientId !== undefined) query = query.where('c.client_id', '=', filter.clientId);
  if (filter.nodeId !== undefined) query = query.where('c.node', '=', filter.nodeId);
  return query;
}

export async function listConnections(database: Database, filter: ConnectionFilter): Promise<ConnectionView[]> {
  const rows = await newestConnections(database, filter).execute();
  const open = rows.filter(({ state }) => state === 'open').map((row) => row.connection_id);
  const fresh = await recentWindows(sql`connection_id = any(${open}::uuid[])`).execute(database);
  const windows = new Map(fresh.rows.map((window) => [window.connection_id, window]));
  return rows.map((row) => ({
    id: row.connection_id,
    clientId: row.client_id,
    nodeId: row.node,
    state: row.state,
    reason: row.reason,
    transport: row.transport,
    addresses: row.addresses,
    remoteAddress: row.remote_host,
    remotePort: row.remote_port,
    establishedAt: row.established_at?.toISOString() ?? null,
    closedAt: row.closed_at?.toISOString() ?? null,
    durationMs: row.duration_ms,
    bytesIn: row.bytes_in,
    bytesOut: row.bytes_out,
    packetsIn: row.packets_in,
    packetsOut: row.packets_out,
    rttMs: windows.get(row.connection_id)?.rtt_ms ?? null,
    throughputInMbps: windows.get(row.connection_id)?.throughput_in_mbps ?? null,
    throughputOutMbps: windows.get(row.connection_id)?.throughput_out_mbps ?? null,
    lossPercent: windows.get(row.connection_id)?.loss_percent ?? null,
  }));
}
