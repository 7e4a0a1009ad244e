import { sql } from 'kysely';
import { describeValue } from '../../shared/describe-value.ts';
import { holdProjectionTables } from '../projections/hold-tables.ts';
import { readFreshPosition, recentWindows } from '../projections/recent-windows.ts';
import type { Database } from '../storage/database.ts';
import { HttpError } from './problem.ts';

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

/** Those that follow the connection `after` in this order, whether it matches itself or not. None: there is no such connection. */
export async function connectionsAfter(database: Database, filter: ConnectionFilter, after: string) {
  const place = await database
    .selectFrom('connections')
    // As text, which has the microseconds.
    .select(sql<string | null>`established_at::text`.as('begin'))
    .where('connection_id', '=', after)
    .executeTakeFirst();
  if (place === undefined) return undefined;
  const { begin } = place;
  // Two statements: one of both would go through the index from its start.
  const known = begin === null ? [] : await begunBefore(database, filter, begin, after).execute();
  const limit = filter.limit - known.length;
  if (limit === 0) return known;
  const unknown = unknownBegins(database, { ...filter, limit }, begin === null ? after : undefined);
  return [...known, ...(await unknown.execute())];
}

/** Those with a known begin that follow the one with this begin and id. */
export function begunBefore(database: Database, filter: ConnectionFilter, begin: string, after: string) {
  const at = sql<Date>`${begin}::timestamptz`;
  return newestConnections(database, filter)
    .where('c.established_at', '<=', at)
    .where(({ or, eb }) => or([eb('c.established_at', '<', at), eb('c.connection_id', '>', after)]));
}

/** Those whose begin is unknown, and that follow the one with this id. */
export function unknownBegins(database: Database, filter: ConnectionFilter, after: string | undefined) {
  const query = newestConnections(database, filter).where('c.established_at', 'is', null);
  return after === undefined ? query : query.where('c.connection_id', '>', after);
}

/** A page of connections, as of one moment; `after` is the last one of the page before. Throws HttpError where there is none such. */
export async function listConnections(
  database: Database,
  filter: ConnectionFilter,
  after?: string,
): Promise<ConnectionView[]> {
  return await database
    .transaction()
    .setIsolationLevel('repeatable read')
    .setAccessMode('read only')
    .execute(async (trx) => {
      await holdProjectionTables(trx);
      return await readPage(trx, filter, after);
    });
}

async function readPage(database: Database, filter: ConnectionFilter, after?: string): Promise<ConnectionView[]> {
  const rows =
    after === undefined
      ? await newestConnections(database, filter).execute()
      : await connectionsAfter(database, filter, after);
  if (rows === undefined) {
    const detail = `query after: got ${describeValue(after)}, expected the id of a connection that there is`;
    throw new HttpError(400, 'INVALID_REQUEST', detail, { field: 'after' });
  }
  const open = rows.filter(({ state }) => state === 'open').map((row) => row.connection_id);
  const newest = recentWindows(await readFreshPosition(database), sql`connection_id = any(${open}::uuid[])`);
  const fresh = await newest.execute(database);
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
