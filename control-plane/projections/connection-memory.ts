import { sql } from 'kysely';
import { CONTROL_NODE } from '../../shared/events/envelope.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { loadConnections } from './connection-rows.ts';
import type { Connection } from './connection-state.ts';

/** Ours: connections that are remembered, at about a kilobyte each; those beyond are read again when they are named. */
const MAX_CONNECTIONS = 200_000;
/** Ours: connections that ended lately; their releases still name them. */
const MAX_ENDED = 20_000;

/**
 * What is known of connections that have not ended, or not long ago, from one call of `projectEntries` to the next, so that a sample costs no
 * SELECT. It belongs to one schema and one writer at a time: after a transaction that failed it has to `forget`. What others
 * appended to the log in between is caught up with.
 */
export class ConnectionMemory {
  /** Everything up to this position is known of; undefined while nothing is remembered. */
  private position: number | undefined;
  private readonly known = new Map<string, Connection>();
  private readonly ended = new Map<string, Connection>();
  /** By node, the newest. */
  private readonly incarnations = new Map<string, string>();

  /** Before entries behind `position` are projected. */
  async catchUp(trx: DatabaseTransaction, position: number): Promise<void> {
    if (this.position !== undefined && this.position !== position) {
      const foreign = await trx
        .selectFrom('events')
        .select(['node', 'type', 'data'])
        .where('position', '>', this.position)
        .where('position', '<=', position)
        .where(({ eb, or }) =>
          or([eb('type', 'in', ['connection.presumed_closed', 'block.reclaimed']), eb('node', '<>', CONTROL_NODE)]),
        )
        .execute();
      // Dead letters that were tried again.
      if (foreign.some(({ node }) => node !== CONTROL_NODE)) this.forget();
      for (const { type, data } of foreign) {
        if (type === 'connection.presumed_closed' && 'connectionId' in data) this.known.delete(data.connectionId);
        if (type === 'block.reclaimed' && 'node' in data) this.forgetNode(data.node);
      }
    }
    this.position = position;
  }

  /** Those that are remembered, and of the others those that the database has. */
  async load(trx: DatabaseTransaction, ids: Iterable<string>): Promise<Connection[]> {
    const found: Connection[] = [];
    const missing: string[] = [];
    for (const id of ids) {
      const connection = this.known.get(id) ?? this.ended.get(id);
      if (connection) found.push(connection);
      else missing.push(id);
    }
    if (missing.length === 0) return found;
    return [...found, ...(await loadConnections(trx, sql<boolean>`connection_id = any(${missing}::uuid[])`))];
  }

  /** After entries up to `position` are projected, with the connections that they named. */
  remember(position: number, connections: Iterable<Connection>): void {
    this.position = position;
    for (const connection of connections) {
      const { connectionId } = connection;
      const hasEnded = connection.status.state === 'closed';
      const [at, other] = hasEnded ? [this.ended, this.known] : [this.known, this.ended];
      other.delete(connectionId);
      at.set(connectionId, at.has(connectionId) ? connection : this.withSharedIncarnation(connection));
    }
    trim(this.known, MAX_CONNECTIONS);
    trim(this.ended, MAX_ENDED);
  }

  forget(): void {
    this.position = undefined;
    this.known.clear();
    this.ended.clear();
    this.incarnations.clear();
  }

  /** Each event brings a text of its own, and those of a node are all the same. */
  private withSharedIncarnation(connection: Connection): Connection {
    const { node, incarnation } = connection;
    const shared = this.incarnations.get(node);
    if (shared === incarnation) return { ...connection, incarnation: shared };
    this.incarnations.set(node, incarnation);
    return connection;
  }

  private forgetNode(node: string): void {
    for (const [id, connection] of this.known) if (connection.node === node) this.known.delete(id);
  }
}

/** The oldest ones go. */
function trim(connections: Map<string, Connection>, limit: number): void {
  for (const id of connections.keys()) {
    if (connections.size <= limit) break;
    connections.delete(id);
  }
}
