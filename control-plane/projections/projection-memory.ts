import { ConnectionMemory } from './connection-memory.ts';
import { TrafficPartitions } from './traffic-partitions.ts';

/**
 * What outlives a call of `projectEntries`. It belongs to one schema and one writer at a time; after a transaction (or a
 * savepoint) that was rolled back it has to `forget`.
 */
export class ProjectionMemory {
  readonly connections = new ConnectionMemory();
  readonly trafficPartitions = new TrafficPartitions();

  private tables: number | undefined;

  /** `tables` tells the tables of the schema from others, which a rebuild can put in their place. */
  belongTo(tables: number): void {
    if (this.tables !== tables) this.forget();
    this.tables = tables;
  }

  forget(): void {
    this.connections.forget();
    this.trafficPartitions.forget();
  }
}
