import { CONTROL_NODE } from '../../shared/events/envelope.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { AddressMemory } from './address-memory.ts';
import { ConnectionMemory } from './connection-memory.ts';
import { TrafficMemory } from './traffic-memory.ts';

/** Of the events that others append, these are about what is remembered. */
const FOREIGN_TYPES = ['connection.presumed_closed', 'block.returned', 'block.reclaimed'] as const;

/**
 * What outlives a call of `projectEntries`. It belongs to one schema and one writer at a time; after a transaction (or a
 * savepoint) that was rolled back it has to `forget`. What others appended to the log in between is caught up with.
 */
export class ProjectionMemory {
  readonly connections = new ConnectionMemory();
  readonly addresses = new AddressMemory();
  readonly traffic = new TrafficMemory();
  private tables: number | undefined;
  /** Everything up to this position is known of; undefined while nothing is remembered. */
  private position: number | undefined;

  /** `tables` tells the tables of the schema from others, which a rebuild can put in their place. */
  belongTo(tables: number): void {
    if (this.tables !== tables) this.forget();
    this.tables = tables;
  }

  /** Before entries behind `position` are projected. */
  async catchUp(trx: DatabaseTransaction, position: number): Promise<void> {
    if (this.position === undefined || this.position === position) return;
    const foreign = await trx
      .selectFrom('events')
      .select(['node', 'type', 'data'])
      .where('position', '>', this.position)
      .where('position', '<=', position)
      .where(({ eb, or }) => or([eb('type', 'in', FOREIGN_TYPES), eb('node', '<>', CONTROL_NODE)]))
      .execute();
    for (const { node, type, data } of foreign) {
      // Dead letters that were tried again.
      if (node !== CONTROL_NODE) {
        this.connections.forget();
        this.addresses.forget();
      }
      if (type === 'connection.presumed_closed' && 'connectionId' in data) {
        this.connections.forgetConnection(data.connectionId);
      }
      if (type === 'block.returned' && 'block' in data && 'node' in data)
        this.addresses.forgetBlock(data.node, data.block);
      if (type === 'block.reclaimed' && 'node' in data) {
        this.connections.forgetNode(data.node);
        this.addresses.forgetNode(data.node);
      }
    }
  }

  /** Entries up to this position are projected, and what is remembered is as they left it. */
  moveTo(position: number): void {
    this.position = position;
  }

  forget(): void {
    this.position = undefined;
    this.connections.forget();
    this.addresses.forget();
    this.traffic.forget();
  }
}
