import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows } from '../storage/insert-rows.ts';
import type { IpLedgerTable } from '../storage/tables.ts';
import type { Assignment } from './assignment-state.ts';

interface LedgerRow {
  readonly cause: LogEntry;
  readonly at: number;
  readonly entry: IpLedgerTable['entry'];
  readonly node: string;
  readonly pool: string;
  readonly block: string;
  readonly address: string | null;
  readonly clientId: string | null;
  readonly connectionId: string | null;
  readonly leaseEnd: string | null;
  readonly reason: string | null;
}

const COLUMNS: Readonly<Record<string, Column<LedgerRow>>> = {
  position: { type: 'bigint', value: (row) => row.cause.position },
  event_node: { type: 'text', value: (row) => row.cause.event.node },
  event_epoch: { type: 'text', value: (row) => row.cause.event.epoch },
  event_seq: { type: 'bigint', value: (row) => row.cause.event.seq },
  event_type: { type: 'text', value: (row) => row.cause.event.type },
  at: { type: 'timestamptz', value: (row) => row.at },
  entry: { type: 'text', value: (row) => row.entry },
  node: { type: 'text', value: (row) => row.node },
  pool: { type: 'cidr', value: (row) => row.pool },
  block: { type: 'cidr', value: (row) => row.block },
  address: { type: 'inet', value: (row) => row.address },
  client_id: { type: 'text', value: (row) => row.clientId },
  connection_id: { type: 'uuid', value: (row) => row.connectionId },
  lease_end: { type: 'timestamptz', value: (row) => row.leaseEnd },
  reason: { type: 'text', value: (row) => row.reason },
};

const BLOCK_ENTRIES = {
  'block.granted': 'granted',
  'block.renewed': 'renewed',
  'block.returned': 'returned',
  'block.reclaimed': 'reclaimed',
} as const;

/** Writes down everything that is done with blocks and addresses. Takes block events, and what the assignments find. */
export class IpLedgerProjection {
  private readonly rows: LedgerRow[] = [];

  apply(cause: LogEntry): void {
    const { event } = cause;
    switch (event.type) {
      case 'block.granted':
      case 'block.renewed':
      case 'block.returned':
      case 'block.reclaimed': {
        const { block, pool, node } = event.data;
        const leaseEnd = 'leaseEnd' in event.data ? event.data.leaseEnd : null;
        const nobody = { address: null, clientId: null, connectionId: null, reason: null };
        const entry = BLOCK_ENTRIES[event.type];
        this.rows.push({ cause, at: Date.parse(event.at), entry, node, pool, block, leaseEnd, ...nobody });
        break;
      }
      default:
    }
  }

  /** An assignment was made, refused or ended by `cause`. */
  record(
    cause: LogEntry,
    entry: 'assigned' | 'released' | 'conflict',
    at: number,
    {
      node,
      pool,
      block,
      address,
      clientId,
      connectionId,
    }: Pick<Assignment, 'node' | 'pool' | 'block' | 'address' | 'clientId' | 'connectionId'>,
    reason: string | null,
  ): void {
    this.rows.push({ cause, at, entry, node, pool, block, address, clientId, connectionId, leaseEnd: null, reason });
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    await insertRows(trx, 'ip_ledger', COLUMNS, this.rows);
  }
}
