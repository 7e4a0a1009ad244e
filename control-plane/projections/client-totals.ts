import { sql } from 'kysely';
import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows, timestamp } from '../storage/insert-rows.ts';
import type { ConnectionOutcome } from './connections.ts';

interface Increment {
  readonly clientId: string;
  bytesSent: number;
  bytesReceived: number;
  packetsSent: number;
  packetsReceived: number;
  lastSeen: number;
}

const COLUMNS: Readonly<Record<string, Column<Increment>>> = {
  client_id: { type: 'text', value: (row) => row.clientId },
  bytes_sent: { type: 'bigint', value: (row) => row.bytesSent },
  bytes_received: { type: 'bigint', value: (row) => row.bytesReceived },
  packets_sent: { type: 'bigint', value: (row) => row.packetsSent },
  packets_received: { type: 'bigint', value: (row) => row.packetsReceived },
  last_seen: { type: 'timestamptz', value: (row) => timestamp(row.lastSeen) },
};

/** Projects each client's traffic in all: what its connections count, no more and no less. */
export class ClientTotalsProjection {
  private readonly increments = new Map<string, Increment>();

  apply({ event }: LogEntry, outcomes: readonly ConnectionOutcome[]): void {
    const at = Date.parse(event.at);
    for (const { connection, counted } of outcomes) {
      const row = this.of(connection.clientId, at);
      row.bytesSent += counted.bytesOut;
      row.bytesReceived += counted.bytesIn;
      row.packetsSent += counted.packetsOut;
      row.packetsReceived += counted.packetsIn;
      row.lastSeen = Math.max(row.lastSeen, at);
    }
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    const added = sql`
      ON CONFLICT (client_id) DO UPDATE SET
        bytes_sent = client_totals.bytes_sent + excluded.bytes_sent,
        bytes_received = client_totals.bytes_received + excluded.bytes_received,
        packets_sent = client_totals.packets_sent + excluded.packets_sent,
        packets_received = client_totals.packets_received + excluded.packets_received,
        last_seen = greatest(client_totals.last_seen, excluded.last_seen)`;
    await insertRows(trx, 'client_totals', COLUMNS, [...this.increments.values()], added);
  }

  private of(clientId: string, at: number): Increment {
    const known = this.increments.get(clientId);
    if (known) return known;
    const none = { bytesSent: 0, bytesReceived: 0, packetsSent: 0, packetsReceived: 0 };
    const made: Increment = { clientId, ...none, lastSeen: at };
    this.increments.set(clientId, made);
    return made;
  }
}
