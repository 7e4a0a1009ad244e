import { sql } from 'kysely';
import type { DatabaseTransaction } from '../storage/database.ts';
import { loadConnections } from './connection-rows.ts';
import type { Connection } from './connection-state.ts';

/** Ours: connections that are remembered, at about a kilobyte each; those beyond are read again when they are named. */
const MAX_CONNECTIONS = 200_000;
/** Ours: connections that ended lately; their releases still name them. */
const MAX_ENDED = 20_000;

/**
 * What is known of connections that have not ended, or not long ago, from one call of `projectEntries` to the next, so that a sample costs no
 * SELECT. Belongs to a `ProjectionMemory`.
 */
export class ConnectionMemory {
  private readonly known = new Map<string, Connection>();
  private readonly ended = new Map<string, Connection>();
  /** By node, the newest. */
  private readonly incarnations = new Map<string, string>();

  find(connectionId: string): Connection | undefined {
    return this.known.get(connectionId) ?? this.ended.get(connectionId);
  }

  /** Those that are remembered, and of the others those that the database has. */
  async load(trx: DatabaseTransaction, ids: Iterable<string>): Promise<Connection[]> {
    const found: Connection[] = [];
    const missing: string[] = [];
    for (const id of ids) {
      const connection = this.find(id);
      if (connection) found.push(connection);
      else missing.push(id);
    }
    if (missing.length === 0) return found;
    return [...found, ...(await loadConnections(trx, sql<boolean>`connection_id = any(${missing}::uuid[])`))];
  }

  /** What projected entries left of connections, but for those of which they counted windows only. */
  remember(connections: Iterable<Connection>): void {
    for (const connection of connections) {
      const { connectionId, status } = connection;
      if (status.state === 'closed') {
        this.known.delete(connectionId);
        this.ended.set(connectionId, connection);
      } else {
        const isKnown = this.known.has(connectionId);
        this.known.set(connectionId, isKnown ? connection : this.withSharedIncarnation(connection));
      }
    }
    trim(this.known, MAX_CONNECTIONS);
    trim(this.ended, MAX_ENDED);
  }

  forget(): void {
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

  forgetConnection(connectionId: string): void {
    this.known.delete(connectionId);
  }

  forgetNode(node: string): void {
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
