import { sql } from 'kysely';
import { CONTROL_NODE, type VpnEvent } from '../../shared/events/envelope.ts';
import type { TrafficTotals } from '../../shared/events/node-events.ts';
import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows, overwrite, timestamp } from '../storage/insert-rows.ts';
import type { Row } from '../storage/tables.ts';
import {
  type Connection,
  type ConnectionChange,
  type ConnectionStep,
  evolveConnection,
  ForeignConnectionError,
  newConnection,
} from './connection-state.ts';
import type { NodeNews, NodesProjection } from './nodes.ts';

/** What follows for totals and ledger from what an event did to a connection. */
export interface ConnectionOutcome extends ConnectionStep {
  /** It came to its end without a report of it, so its addresses were not released either. */
  readonly abandoned: boolean;
}

/** Projects every connection from its establishment to its end. */
export class ConnectionsProjection {
  private readonly rows = new Map<string, Connection>();
  private readonly presumed = new Set<string>();
  private readonly dirty = new Set<string>();

  /** `alsoIds`: connections that the entries do not name, but that a reclaimed block touches. */
  static async load(
    trx: DatabaseTransaction,
    entries: readonly LogEntry[],
    nodes: NodesProjection,
    alsoIds: readonly string[],
  ): Promise<ConnectionsProjection> {
    const ids = new Set(alsoIds);
    const senders = new Set<string>();
    const restarted = new Set<string>();
    for (const { event } of entries) {
      for (const id of connectionIdsOf(event)) ids.add(id);
      if (event.node === CONTROL_NODE) continue;
      senders.add(event.node);
      const known = nodes.get(event.node);
      if (known !== undefined && known.incarnation !== event.incarnation) restarted.add(event.node);
    }
    const projection = new ConnectionsProjection();
    const named = trx.selectFrom('connections').selectAll();
    const found = [
      ...(ids.size === 0
        ? []
        : await named.where('connection_id', '=', sql<string>`any(${[...ids]}::uuid[])`).execute()),
      ...(restarted.size === 0
        ? []
        : await named
            .where('node', 'in', [...restarted])
            .where('state', '<>', 'closed')
            .execute()),
      ...(senders.size === 0
        ? []
        : await named
            .where('node', 'in', [...senders])
            .where('state', '=', 'presumed')
            .execute()),
    ];
    for (const row of found) projection.set(fromRow(row));
    return projection;
  }

  /** Applies one event; `news` is what it says of its node. Throws ForeignConnectionError before anything changes. */
  apply(entry: LogEntry, news: NodeNews): ConnectionOutcome[] {
    const { event } = entry;
    this.refuseForeign(event);
    const outcomes: ConnectionOutcome[] = [];
    const at = Date.parse(event.at);
    if (event.node !== CONTROL_NODE) this.hear(event, at, news, outcomes);
    switch (event.type) {
      case 'connection.established': {
        const { remoteAddress, remotePort, transport, tunnelMtu } = event.data;
        const details = { remoteAddress, remotePort, transport, tunnelMtu };
        this.change(event, event.data, { type: 'established', at, details }, outcomes);
        break;
      }
      case 'connection.closed': {
        const { reason, detail, durationMs, totals } = event.data;
        this.change(event, event.data, { type: 'closed', at, reason, detail, durationMs, totals }, outcomes);
        break;
      }
      case 'connection.presumed_closed': {
        const known = this.rows.get(event.data.connectionId);
        if (known) this.step(known, { type: 'presumed', at, reason: event.data.reason }, outcomes);
        break;
      }
      case 'traffic.sampled':
        for (const sample of event.data.connections) {
          this.change(event, sample, { type: 'sampled', traffic: trafficIn(sample) }, outcomes);
        }
        break;
      case 'address.assigned':
      case 'address.released':
        this.change(event, event.data, { type: 'mentioned' }, outcomes);
        break;
      default:
    }
    return outcomes;
  }

  /** Ends connections whose addresses were taken back. */
  abandon(ids: Iterable<string>, at: number, detail: string): ConnectionOutcome[] {
    const outcomes: ConnectionOutcome[] = [];
    for (const id of ids) {
      const known = this.rows.get(id);
      if (known) this.step(known, { type: 'abandoned', at, reason: 'node_lost', detail }, outcomes);
    }
    return outcomes;
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    const rows = [...this.dirty].map((id) => this.rows.get(id)!);
    await insertRows(trx, 'connections', COLUMNS, rows, overwrite(['connection_id'], COLUMNS));
  }

  /** Everything a node process writes says something about its other connections too. */
  private hear(event: VpnEvent, at: number, news: NodeNews, outcomes: ConnectionOutcome[]): void {
    if (news.type === 'new_incarnation') {
      for (const row of this.rows.values()) {
        if (row.node !== event.node || row.incarnation === event.incarnation) continue;
        const reason = row.status.state === 'presumed' ? 'node_lost' : 'error';
        const detail = 'the node started anew without a report of the end';
        this.step(row, { type: 'abandoned', at: news.lastSignAt, reason, detail }, outcomes);
      }
    }
    for (const id of this.presumed) {
      const row = this.rows.get(id)!;
      if (row.node === event.node && row.incarnation === event.incarnation) {
        this.step(row, { type: 'heard', at }, outcomes);
      }
    }
  }

  private change(
    event: VpnEvent,
    { connectionId, clientId }: { connectionId: string; clientId: string },
    change: ConnectionChange,
    outcomes: ConnectionOutcome[],
  ): void {
    const { node, incarnation } = event;
    const known = this.rows.get(connectionId) ?? newConnection({ connectionId, clientId, node, incarnation });
    if (!this.rows.has(connectionId)) this.dirty.add(connectionId);
    this.step(known, change, outcomes);
  }

  private step(before: Connection, change: ConnectionChange, outcomes: ConnectionOutcome[]): void {
    const step = evolveConnection(before, change);
    this.set(step.connection);
    if (step.connection !== before) this.dirty.add(before.connectionId);
    outcomes.push({ ...step, abandoned: change.type === 'abandoned' && step.ended });
  }

  private set(connection: Connection): void {
    const { connectionId, status } = connection;
    this.rows.set(connectionId, connection);
    if (status.state === 'presumed') this.presumed.add(connectionId);
    else this.presumed.delete(connectionId);
  }

  /** A node speaks for its own connections only. */
  private refuseForeign(event: VpnEvent): void {
    if (event.node === CONTROL_NODE) return;
    for (const { connectionId, clientId } of connectionsOf(event)) {
      const known = this.rows.get(connectionId);
      if (known && (known.node !== event.node || known.clientId !== clientId)) {
        throw new ForeignConnectionError(known, event.node, clientId);
      }
    }
  }
}

function connectionsOf(event: VpnEvent): readonly { connectionId: string; clientId: string }[] {
  switch (event.type) {
    case 'connection.established':
    case 'connection.closed':
    case 'connection.presumed_closed':
    case 'address.assigned':
    case 'address.released':
      return [event.data];
    case 'traffic.sampled':
      return event.data.connections;
    default:
      return [];
  }
}

const connectionIdsOf = (event: VpnEvent): string[] => connectionsOf(event).map(({ connectionId }) => connectionId);

function trafficIn({ bytesIn, bytesOut, packetsIn, packetsOut }: TrafficTotals): TrafficTotals {
  return { bytesIn, bytesOut, packetsIn, packetsOut };
}

const closed = ({ status }: Connection) => (status.state === 'closed' ? status : undefined);
const COLUMNS: Readonly<Record<string, Column<Connection>>> = {
  connection_id: { type: 'uuid', value: (row) => row.connectionId },
  client_id: { type: 'text', value: (row) => row.clientId },
  node: { type: 'text', value: (row) => row.node },
  incarnation: { type: 'text', value: (row) => row.incarnation },
  state: { type: 'text', value: (row) => row.status.state },
  reason: { type: 'text', value: ({ status }) => (status.state === 'open' ? null : status.reason) },
  detail: { type: 'text', value: (row) => closed(row)?.detail ?? null },
  remote_address: { type: 'inet', value: (row) => row.established?.details.remoteAddress ?? null },
  remote_port: { type: 'integer', value: (row) => row.established?.details.remotePort ?? null },
  transport: { type: 'text', value: (row) => row.established?.details.transport ?? null },
  tunnel_mtu: { type: 'integer', value: (row) => row.established?.details.tunnelMtu ?? null },
  established_at: { type: 'timestamptz', value: (row) => timestamp(row.established?.at ?? null) },
  presumed_at: { type: 'timestamptz', value: (row) => timestamp(row.presumedAt) },
  closed_at: { type: 'timestamptz', value: (row) => timestamp(closed(row)?.closedAt ?? null) },
  duration_ms: { type: 'double precision', value: (row) => closed(row)?.durationMs ?? null },
  sampled_bytes_in: { type: 'bigint', value: (row) => row.sampled.bytesIn },
  sampled_bytes_out: { type: 'bigint', value: (row) => row.sampled.bytesOut },
  sampled_packets_in: { type: 'bigint', value: (row) => row.sampled.packetsIn },
  sampled_packets_out: { type: 'bigint', value: (row) => row.sampled.packetsOut },
  close_bytes_in: { type: 'bigint', value: (row) => row.closeTotals?.bytesIn ?? null },
  close_bytes_out: { type: 'bigint', value: (row) => row.closeTotals?.bytesOut ?? null },
  close_packets_in: { type: 'bigint', value: (row) => row.closeTotals?.packetsIn ?? null },
  close_packets_out: { type: 'bigint', value: (row) => row.closeTotals?.packetsOut ?? null },
};

function fromRow(row: Row<'connections'>): Connection {
  return {
    connectionId: row.connection_id,
    clientId: row.client_id,
    node: row.node,
    incarnation: row.incarnation,
    status: statusOf(row),
    established:
      row.established_at === null
        ? null
        : {
            at: row.established_at.getTime(),
            details: {
              remoteAddress: row.remote_address!,
              remotePort: row.remote_port!,
              transport: row.transport!,
              tunnelMtu: row.tunnel_mtu!,
            },
          },
    presumedAt: row.presumed_at?.getTime() ?? null,
    sampled: {
      bytesIn: row.sampled_bytes_in,
      bytesOut: row.sampled_bytes_out,
      packetsIn: row.sampled_packets_in,
      packetsOut: row.sampled_packets_out,
    },
    closeTotals:
      row.close_bytes_in === null
        ? null
        : {
            bytesIn: row.close_bytes_in,
            bytesOut: row.close_bytes_out!,
            packetsIn: row.close_packets_in!,
            packetsOut: row.close_packets_out!,
          },
  };
}

function statusOf(row: Row<'connections'>): Connection['status'] {
  switch (row.state) {
    case 'open':
      return { state: 'open' };
    case 'presumed':
      return { state: 'presumed', reason: row.reason! };
    case 'closed':
      return {
        state: 'closed',
        reason: row.reason!,
        detail: row.detail ?? '',
        closedAt: row.closed_at!.getTime(),
        durationMs: row.duration_ms,
      };
    default:
      return row.state satisfies never;
  }
}
