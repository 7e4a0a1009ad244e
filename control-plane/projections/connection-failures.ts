import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows } from '../storage/insert-rows.ts';

type Failure = LogEntry<'connection.failed'>;

const COLUMNS: Readonly<Record<string, Column<Failure>>> = {
  position: { type: 'bigint', value: (row) => row.position },
  at: { type: 'timestamptz', value: ({ event }) => event.at },
  node: { type: 'text', value: ({ event }) => event.node },
  remote_address: { type: 'inet', value: ({ event }) => event.data.remoteAddress },
  client_id: { type: 'text', value: ({ event }) => event.data.clientId },
  status: { type: 'integer', value: ({ event }) => event.data.status },
  reason: { type: 'text', value: ({ event }) => event.data.reason },
  error_type: { type: 'text', value: ({ event }) => event.data.errorType },
  count: { type: 'bigint', value: ({ event }) => event.data.count },
};

/** Projects connections that never came about. Takes `connection.failed`. */
export class ConnectionFailuresProjection {
  private readonly rows: Failure[] = [];

  apply(entry: LogEntry): void {
    if (entry.event.type === 'connection.failed') this.rows.push(entry as Failure);
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    await insertRows(trx, 'connection_failures', COLUMNS, this.rows);
  }
}
