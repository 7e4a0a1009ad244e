import { sql } from 'kysely';
import { CONTROL_NODE, type VpnEvent } from '../../shared/events/envelope.ts';
import { type TrafficTotals, trafficAt } from '../../shared/events/traffic-columns.ts';
import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import type { ConnectionMemory } from './connection-memory.ts';
import { addLateWindows, writeConnections } from './connection-rows.ts';
import {
  type Connection,
  type ConnectionChange,
  type ConnectionOutcome,
  countSample,
  evolveConnection,
  ForeignConnectionError,
  newConnection,
} from './connection-state.ts';
import type { NodeNews, NodesProjection } from './nodes.ts';
import { addTraffic } from './traffic-totals.ts';

/** Projects every connection from its establishment to its end. */
export class ConnectionsProjection {
  private readonly memory: ConnectionMemory;
  /** Those that are read or changed, but for windows that are counted in place; of the others the memory knows. */
  private readonly rows = new Map<string, Connection>();
  private readonly presumed = new Set<string>();
  private readonly dirty = new Set<string>();

  /** By connection: windows that came after the report of the end. */
  private readonly late = new Map<string, TrafficTotals>();

  private constructor(memory: ConnectionMemory) {
    this.memory = memory;
  }

  /** `alsoIds`: connections that the entries do not name, but that a reclaimed block touches. */
  static async load(
    trx: DatabaseTransaction,
    entries: readonly LogEntry[],
    nodes: NodesProjection,
    alsoIds: readonly string[],
    memory: ConnectionMemory,
  ): Promise<ConnectionsProjection> {
    const ids = new Set(alsoIds);
    const senders = new Set<string>();
    const restarted = new Set<string>();
    for (const { event } of entries) {
      forEachConnection(event, (connectionId) => {
        if (memory.find(connectionId) === undefined) ids.add(connectionId);
      });
      if (event.node === CONTROL_NODE) continue;
      senders.add(event.node);
      const known = nodes.get(event.node);
      if (known !== undefined && known.incarnation !== event.incarnation) restarted.add(event.node);
    }
    if (restarted.size > 0) {
      const unfinished = trx.selectFrom('connections').select('connection_id').where('state', '<>', 'closed');
      const rows = await unfinished.where('node', 'in', [...restarted]).execute();
      for (const row of rows) ids.add(row.connection_id);
    }
    if (senders.size > 0) {
      const presumed = trx.selectFrom('connections').select('connection_id').where('state', '=', 'presumed');
      const rows = await presumed.where('node', '=', sql<string>`any(${[...senders]}::text[])`).execute();
      for (const row of rows) ids.add(row.connection_id);
    }
    const projection = new ConnectionsProjection(memory);
    for (const connection of await memory.load(trx, ids)) projection.set(connection);
    return projection;
  }

  /**
   * Applies one event; `news` is what it says of its node. Of a window the last outcomes are those of its samples, in their order.
   * Throws ForeignConnectionError before anything changes.
   */
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
        const { connectionId, clientId } = event.data;
        this.change(event, connectionId, clientId, { type: 'established', at, details }, outcomes);
        break;
      }
      case 'connection.closed': {
        const { connectionId, clientId, reason, detail, durationMs, totals } = event.data;
        const end = { type: 'closed', at, reason, detail, durationMs, totals } as const;
        this.change(event, connectionId, clientId, end, outcomes);
        break;
      }
      case 'connection.presumed_closed': {
        const known = this.find(event.data.connectionId);
        if (known) this.step(known, { type: 'presumed', at, reason: event.data.reason }, outcomes);
        break;
      }
      case 'traffic.sampled': {
        const { samples } = event.data;
        for (let i = 0; i < samples.connectionId.length; i++) {
          const traffic = trafficAt(samples, i);
          const connectionId = samples.connectionId[i]!;
          const known = this.find(connectionId);
          const counted = known && countSample(known, traffic);
          if (counted !== undefined) {
            outcomes.push(counted);
            continue;
          }
          const change = { type: 'sampled', traffic } as const;
          const after = this.change(event, connectionId, samples.clientId[i]!, change, outcomes);
          if (after.closeTotals !== null) this.addLate(connectionId, traffic);
        }
        break;
      }
      case 'address.assigned':
      case 'address.released':
        this.change(event, event.data.connectionId, event.data.clientId, { type: 'mentioned' }, outcomes);
        break;
      default:
    }
    return outcomes;
  }

  /** Ends connections whose addresses were taken back. */
  abandon(ids: Iterable<string>, at: number, detail: string): ConnectionOutcome[] {
    const outcomes: ConnectionOutcome[] = [];
    for (const id of ids) {
      const known = this.find(id);
      if (known) this.step(known, { type: 'abandoned', at, reason: 'node_lost', detail }, outcomes);
    }
    return outcomes;
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    await writeConnections(
      trx,
      [...this.dirty].map((id) => this.rows.get(id)!),
    );
    await addLateWindows(trx, this.late);
  }

  /** As the entries left them, all that they changed in other ways than in place. */
  all(): Iterable<Connection> {
    return this.rows.values();
  }

  /** Everything a node process writes says something about its other connections too. */
  private hear(event: VpnEvent, at: number, news: NodeNews, outcomes: ConnectionOutcome[]): void {
    if (news.type === 'new_incarnation') {
      for (const row of this.rows.values()) {
        if (row.node !== event.node || row.incarnation === event.incarnation) continue;
        // Which ended ones are at hand depends on the batch, so nothing may follow from it.
        if (row.status.state === 'closed') continue;
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
    connectionId: string,
    clientId: string,
    change: ConnectionChange,
    outcomes: ConnectionOutcome[],
  ): Connection {
    const known = this.find(connectionId);
    if (known !== undefined) return this.step(known, change, outcomes);
    this.dirty.add(connectionId);
    const { node, incarnation } = event;
    return this.step(newConnection({ connectionId, clientId, node, incarnation }), change, outcomes);
  }

  private step(before: Connection, change: ConnectionChange, outcomes: ConnectionOutcome[]): Connection {
    const outcome = evolveConnection(before, change);
    const { connection } = outcome;
    this.set(connection);
    // What the windows add up to is folded in from `traffic`.
    if (connection !== before && change.type !== 'sampled') this.dirty.add(before.connectionId);
    outcomes.push(outcome);
    return connection;
  }

  private addLate(connectionId: string, traffic: TrafficTotals): void {
    const before = this.late.get(connectionId);
    this.late.set(connectionId, before ? addTraffic(before, traffic) : traffic);
  }

  private find(connectionId: string): Connection | undefined {
    return this.rows.get(connectionId) ?? this.memory.find(connectionId);
  }

  private set(connection: Connection): void {
    const { connectionId, status } = connection;
    this.rows.set(connectionId, connection);
    if (status.state === 'presumed') this.presumed.add(connectionId);
    else if (this.presumed.size > 0) this.presumed.delete(connectionId);
  }

  /** A node speaks for its own connections only. */
  private refuseForeign(event: VpnEvent): void {
    if (event.node === CONTROL_NODE) return;
    forEachConnection(event, (connectionId, clientId) => {
      const known = this.find(connectionId);
      if (known && (known.node !== event.node || known.clientId !== clientId)) {
        throw new ForeignConnectionError(known, event.node, clientId);
      }
    });
  }
}

/** Samples are visited in their columns: they are most of the log, and this is done for each batch and each event. */
function forEachConnection(event: VpnEvent, visit: (connectionId: string, clientId: string) => void): void {
  switch (event.type) {
    case 'connection.established':
    case 'connection.closed':
    case 'connection.presumed_closed':
    case 'address.assigned':
    case 'address.released':
      visit(event.data.connectionId, event.data.clientId);
      break;
    case 'traffic.sampled': {
      const { connectionId, clientId } = event.data.samples;
      for (let i = 0; i < connectionId.length; i++) visit(connectionId[i]!, clientId[i]!);
      break;
    }
    default:
  }
}
