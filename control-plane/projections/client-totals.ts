import { sql } from 'kysely';
import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows } from '../storage/insert-rows.ts';
import type { ConnectionOutcome } from './connection-state.ts';

interface Sighting {
  readonly clientId: string;
  lastSeen: number;
}

const COLUMNS: Readonly<Record<string, Column<Sighting>>> = {
  client_id: { type: 'text', value: (row) => row.clientId },
  last_seen: { type: 'timestamptz', value: (row) => row.lastSeen },
};

/** Projects which clients there are and when they were last seen; `foldTraffic` adds what they move. */
export class ClientTotalsProjection {
  private readonly seen = new Map<string, Sighting>();

  apply({ event }: LogEntry, outcomes: readonly ConnectionOutcome[]): void {
    if (event.type === 'traffic.sampled' || outcomes.length === 0) return;
    const at = Date.parse(event.at);
    for (const {
      connection: { clientId },
    } of outcomes) {
      const known = this.seen.get(clientId);
      if (known) known.lastSeen = Math.max(known.lastSeen, at);
      else this.seen.set(clientId, { clientId, lastSeen: at });
    }
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    const later = sql`
      ON CONFLICT (client_id) DO UPDATE SET last_seen = excluded.last_seen
      WHERE client_totals.last_seen < excluded.last_seen`;
    await insertRows(trx, 'client_totals', COLUMNS, [...this.seen.values()], later);
  }
}
