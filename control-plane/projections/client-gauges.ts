import { sql } from 'kysely';
import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows, overwrite } from '../storage/insert-rows.ts';
import type { ConnectionOutcome } from './connections.ts';

export interface Gauge {
  readonly connectionId: string;
  readonly clientId: string;
  readonly node: string;
  readonly windowEnd: string;
  readonly rttMs: number | null;
  readonly throughputInMbps: number;
  readonly throughputOutMbps: number;
  readonly lossPercent: number | null;
}

const BITS_PER_BYTE = 8;
/** bit/ms = 1000 bit/s = 0.001 Mbit/s. */
const MBPS_PER_BIT_PER_MS = 0.001;

const COLUMNS: Readonly<Record<string, Column<Gauge>>> = {
  connection_id: { type: 'uuid', value: (row) => row.connectionId },
  client_id: { type: 'text', value: (row) => row.clientId },
  node: { type: 'text', value: (row) => row.node },
  window_end: { type: 'timestamptz', value: (row) => row.windowEnd },
  rtt_ms: { type: 'double precision', value: (row) => row.rttMs },
  throughput_in_mbps: { type: 'double precision', value: (row) => row.throughputInMbps },
  throughput_out_mbps: { type: 'double precision', value: (row) => row.throughputOutMbps },
  loss_percent: { type: 'double precision', value: (row) => row.lossPercent },
};

/** Mbit/s of `bytes` in a window; 0 for a window without length. */
export function throughputMbps(bytes: number, windowMs: number): number {
  return windowMs > 0 ? ((bytes * BITS_PER_BYTE) / windowMs) * MBPS_PER_BIT_PER_MS : 0;
}

/** Projects the newest window of every connection that has not ended. */
export class ClientGaugesProjection {
  private readonly newest = new Map<string, Gauge>();
  private readonly gone = new Set<string>();

  apply({ event }: LogEntry, outcomes: readonly ConnectionOutcome[]): void {
    if (event.type === 'traffic.sampled') {
      const { windowStart, windowEnd, connections } = event.data;
      const windowMs = Date.parse(windowEnd) - Date.parse(windowStart);
      for (const { connectionId, clientId, bytesIn, bytesOut, rttMs, lossPercent } of connections) {
        const known = this.newest.get(connectionId);
        if (known && known.windowEnd > windowEnd) continue;
        this.newest.set(connectionId, {
          connectionId,
          clientId,
          node: event.node,
          windowEnd,
          rttMs,
          throughputInMbps: throughputMbps(bytesIn, windowMs),
          throughputOutMbps: throughputMbps(bytesOut, windowMs),
          lossPercent,
        });
      }
    }
    for (const { connection } of outcomes) {
      if (connection.status.state === 'closed') this.gone.add(connection.connectionId);
    }
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    const rows = [...this.newest.values()].filter(({ connectionId }) => !this.gone.has(connectionId));
    const newer = sql`${overwrite(['connection_id'], COLUMNS)} WHERE client_gauges.window_end <= excluded.window_end`;
    await insertRows(trx, 'client_gauges', COLUMNS, rows, newer);
    if (this.gone.size > 0) {
      await trx
        .deleteFrom('client_gauges')
        .where('connection_id', '=', sql<string>`any(${[...this.gone]}::uuid[])`)
        .execute();
    }
  }
}
