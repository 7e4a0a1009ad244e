import { sql } from 'kysely';
import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows } from '../storage/insert-rows.ts';
import type { EventCountersTable } from '../storage/tables.ts';
import type { ConnectionOutcome } from './connection-state.ts';

const COLUMNS: Readonly<Record<string, Column<EventCountersTable>>> = {
  name: { type: 'text', value: (row) => row.name },
  label: { type: 'text', value: (row) => row.label },
  value: { type: 'bigint', value: (row) => row.value },
};

/** Projects the cluster's totals: connections by status, errors by type, dropped packets by reason. */
export class EventCountersProjection {
  private readonly increments = new Map<string, EventCountersTable>();

  apply({ event }: LogEntry, outcomes: readonly ConnectionOutcome[]): void {
    for (const { established, ended } of outcomes) {
      if (established) this.add('connections', 'established', 1);
      if (ended) this.add('connections', 'closed', 1);
    }
    if (event.type === 'connection.failed') {
      this.add('connections', 'failed', event.data.count);
      this.add('errors', event.data.errorType, event.data.count);
    }
    if (event.type === 'traffic.sampled') {
      this.add('errors', 'packet', event.data.errors.packet);
      this.add('errors', 'other', event.data.errors.other);
      for (const [reason, count] of Object.entries(event.data.drops)) this.add('drops', reason, count);
    }
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    const added = sql`ON CONFLICT (name, label) DO UPDATE SET value = event_counters.value + excluded.value`;
    await insertRows(trx, 'event_counters', COLUMNS, [...this.increments.values()], added);
  }

  private add(name: EventCountersTable['name'], label: string, value: number): void {
    if (value === 0) return;
    const key = `${name}/${label}`;
    const known = this.increments.get(key);
    if (known) known.value += value;
    else this.increments.set(key, { name, label, value });
  }
}
