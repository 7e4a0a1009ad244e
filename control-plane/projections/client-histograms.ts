import { sql } from 'kysely';
import type { DatabaseTransaction } from '../storage/database.ts';
import { decimalOf } from '../storage/decimal-of.ts';
import { type Column, insertRows } from '../storage/insert-rows.ts';
import type { ConnectionOutcome } from './connection-state.ts';
import { bucketOf, DURATION_SECONDS_BOUNDS, sumOfBuckets } from './histogram-buckets.ts';

interface Increment {
  readonly clientId: string;
  readonly buckets: number[];
  /** Whole numbers, so that the sum does not depend on the order. */
  sumUs: bigint;
  count: number;
}

const COLUMNS: Readonly<Record<string, Column<Increment>>> = {
  client_id: { type: 'text', value: (row) => row.clientId },
  family: { type: 'text', value: () => 'connection_duration_seconds' },
  quantile: { type: 'text', value: () => '' },
  buckets: { type: 'bigint[]', value: (row) => `{${row.buckets.join(',')}}` },
  sum: { type: 'numeric', value: (row) => decimalOf(row.sumUs, US_DIGITS) },
  count: { type: 'bigint', value: (row) => row.count },
};

const MS_PER_SECOND = 1_000;
const US_PER_MS = 1_000;
/** Of seconds. */
const US_DIGITS = 6;

/** Projects how long each client's connections lasted; `foldTraffic` adds the latencies of the windows. */
export class ClientHistogramsProjection {
  private readonly increments = new Map<string, Increment>();

  apply(outcomes: readonly ConnectionOutcome[]): void {
    for (const { connection, ended } of outcomes) {
      const { clientId, status } = connection;
      if (ended && status.state === 'closed' && status.durationMs !== null) this.observe(clientId, status.durationMs);
    }
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    const added = sql`
      ON CONFLICT (client_id, family, quantile) DO UPDATE SET
        buckets = ${sumOfBuckets(DURATION_SECONDS_BOUNDS)},
        sum = client_histograms.sum + excluded.sum,
        count = client_histograms.count + excluded.count`;
    await insertRows(trx, 'client_histograms', COLUMNS, [...this.increments.values()], added);
  }

  private observe(clientId: string, durationMs: number): void {
    let row = this.increments.get(clientId);
    if (row === undefined) {
      const buckets = new Array<number>(DURATION_SECONDS_BOUNDS.length + 1).fill(0);
      row = { clientId, buckets, sumUs: 0n, count: 0 };
      this.increments.set(clientId, row);
    }
    const index = bucketOf(DURATION_SECONDS_BOUNDS, durationMs / MS_PER_SECOND);
    row.buckets[index] = (row.buckets[index] ?? 0) + 1;
    row.sumUs += BigInt(Math.round(durationMs * US_PER_MS));
    row.count += 1;
  }
}
