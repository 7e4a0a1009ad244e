import type { Transport } from '../shared/events/node-events.ts';

export interface OpenConnection {
  readonly clientId: string;
  readonly shard: number;
  readonly transport: Transport;
}

const NONE: ReadonlySet<string> = new Set();

/** The tunnels that are open or about to be, by id and by client: every request asks how many its client has. */
export class OpenConnections {
  readonly #byId = new Map<string, OpenConnection>();
  readonly #byClient = new Map<string, Set<string>>();

  get size(): number {
    return this.#byId.size;
  }

  get(connectionId: string): OpenConnection | undefined {
    return this.#byId.get(connectionId);
  }

  add(connectionId: string, connection: OpenConnection): void {
    this.#byId.set(connectionId, connection);
    const { clientId } = connection;
    const ids = this.#byClient.get(clientId) ?? new Set();
    this.#byClient.set(clientId, ids.add(connectionId));
  }

  /** False when there is none. */
  delete(connectionId: string): boolean {
    const connection = this.#byId.get(connectionId);
    if (connection === undefined) return false;
    const { clientId } = connection;
    const ids = this.#byClient.get(clientId);
    ids?.delete(connectionId);
    if (ids?.size === 0) this.#byClient.delete(clientId);
    return this.#byId.delete(connectionId);
  }

  ofClient(clientId: string): ReadonlySet<string> {
    return this.#byClient.get(clientId) ?? NONE;
  }

  count(which: (connection: OpenConnection) => boolean): number {
    let count = 0;
    for (const connection of this.#byId.values()) if (which(connection)) count++;
    return count;
  }
}
