import { sql } from 'kysely';
import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows } from '../storage/insert-rows.ts';
import type { HistogramFamily, HistogramQuantile } from '../storage/tables.ts';
import type { ConnectionOutcome } from './connections.ts';
import { bucketOf, HISTOGRAM_BOUNDS } from './histogram-buckets.ts';

interface Increment {
  readonly clientId: string;
  readonly family: HistogramFamily;
  readonly quantile: HistogramQuantile;
  readonly buckets: number[];
  sum: number;
  count: number;
}

const COLUMNS: Readonly<Record<string, Column<Increment>>> = {
  client_id: { type: 'text', value: (row) => row.clientId },
  family: { type: 'text', value: (row) => row.family },
  quantile: { type: 'text', value: (row) => row.quantile },
  buckets: { type: 'bigint[]', value: (row) => `{${row.buckets.join(',')}}` },
  sum: { type: 'double precision', value: (row) => row.sum },
  count: { type: 'bigint', value: (row) => row.count },
};

const MS_PER_SECOND = 1_000;

/** Projects each client's histograms: the percentiles of every window, and the duration of every connection. */
export class ClientHistogramsProjection {
  private readonly increments = new Map<string, Increment>();

  apply({ event }: LogEntry, outcomes: readonly ConnectionOutcome[]): void {
    for (const { connection, ended } of outcomes) {
      const { clientId, status } = connection;
      if (!ended || status.state !== 'closed' || status.durationMs === null) continue;
      this.observe(clientId, 'connection_duration_seconds', '', status.durationMs / MS_PER_SECOND);
    }
    if (event.type !== 'traffic.sampled') return;
    for (const { clientId, latencyMs } of event.data.connections) {
      if (latencyMs === null) continue;
      this.observe(clientId, 'latency_ms', '0.5', latencyMs.p50);
      this.observe(clientId, 'latency_ms', '0.95', latencyMs.p95);
      this.observe(clientId, 'latency_ms', '0.99', latencyMs.p99);
    }
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    const added = sql`
      ON CONFLICT (client_id, family, quantile) DO UPDATE SET
        buckets = (
          SELECT array_agg(coalesce(old, 0) + coalesce(new, 0) ORDER BY number)
          FROM unnest(client_histograms.buckets, excluded.buckets) WITH ORDINALITY AS both_of (old, new, number)
        ),
        sum = client_histograms.sum + excluded.sum,
        count = client_histograms.count + excluded.count`;
    await insertRows(trx, 'client_histograms', COLUMNS, [...this.increments.values()], added);
  }

  private observe(clientId: string, family: HistogramFamily, quantile: HistogramQuantile, value: number): void {
    const bounds = HISTOGRAM_BOUNDS[family];
    const key = `${clientId}/${family}/${quantile}`;
    let row = this.increments.get(key);
    if (row === undefined) {
      row = { clientId, family, quantile, buckets: new Array<number>(bounds.length + 1).fill(0), sum: 0, count: 0 };
      this.increments.set(key, row);
    }
    const index = bucketOf(bounds, value);
    row.buckets[index] = (row.buckets[index] ?? 0) + 1;
    row.sum += value;
    row.count += 1;
  }
}
