import { ConnectionMemory } from './connection-memory.ts';
import { TrafficMemory } from './traffic-memory.ts';

/**
 * What outlives a call of `projectEntries`. It belongs to one schema and one writer at a time; after a transaction (or a
 * savepoint) that was rolled back it has to `forget`.
 */
export class ProjectionMemory {
  readonly connections = new ConnectionMemory();
  readonly traffic = new TrafficMemory();
  private tables: number | undefined;

  /** `tables` tells the tables of the schema from others, which a rebuild can put in their place. */
  belongTo(tables: number): void {
    if (this.tables !== tables) this.forget();
    this.tables = tables;
  }

  forget(): void {
    this.connections.forget();
    this.traffic.forget();
  }
}
