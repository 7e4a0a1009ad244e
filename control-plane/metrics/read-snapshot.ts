import { sql } from 'kysely';
import { readNewestPosition } from '../log/read-newest-position.ts';
import { type PoolUsage, readPoolUsage, totalOfPools } from '../pools/pool-usage.ts';
import { DURATION_SECONDS_BOUNDS, LATENCY_MS_BOUNDS } from '../projections/histogram-buckets.ts';
import { holdProjectionTables } from '../projections/hold-tables.ts';
import { recentWindows } from '../projections/recent-windows.ts';
import { readTrafficFold } from '../projections/unfolded-traffic.ts';
import type { Database } from '../storage/database.ts';
import { CLUSTER_FAMILIES } from './contract.ts';
import { type ClientTotalsSample, readClientTotals } from './read-client-totals.ts';
import type { ClusterSnapshot } from './render-cluster.ts';

export interface SnapshotAndPools {
  readonly snapshot: ClusterSnapshot;
  readonly pools: readonly PoolUsage[];
}

/** Reads everything that the cluster's metrics show, as of one position of the log. */
export class SnapshotReader {
  private readonly database: Database;
  /**
   * Totals change only when the log has grown or traffic that it has was folded into them, which comes later; so they are read
   * again only then.
   */
  private cached: { readonly asOf: string; readonly clients: readonly ClientTotalsSample[] } | undefined;

  constructor(database: Database) {
    this.database = database;
  }

  /** Drops what was kept from the last scrape, e.g. when another client got series of its own. */
  forget(): void {
    this.cached = undefined;
  }

  read(): Promise<SnapshotAndPools> {
    return this.database
      .transaction()
      .setIsolationLevel('repeatable read')
      .setAccessMode('read only')
      .execute(async (trx) => {
        await holdProjectionTables(trx);
        const fold = await readTrafficFold(trx);
        const asOf = [await readNewestPosition(trx), fold.position, fold.slices].join('/');
        if (this.cached?.asOf !== asOf) this.cached = { asOf, clients: await readClientTotals(trx) };
        const counters = await trx.selectFrom('event_counters').select(['name', 'label', 'value']).execute();
        const counter = (name: string, label: string) =>
          counters.find((row) => row.name === name && row.label === label)?.value ?? 0;
        const active = await trx
          .selectFrom('connections')
          .select(({ fn }) => fn.countAll<number>().as('count'))
          .where('state', '=', 'open')
          .executeTakeFirstOrThrow();
        const gauges = await readGauges(trx);
        const pools = await readPoolUsage(trx);
        const snapshot: ClusterSnapshot = {
          activeConnections: active.count,
          connections: byLabel(CLUSTER_FAMILIES.connections.labels.status, (label) => counter('connections', label)),
          errors: byLabel(CLUSTER_FAMILIES.errors.labels.type, (label) => counter('errors', label)),
          pool: totalOfPools(pools),
          bounds: { latency: LATENCY_MS_BOUNDS, duration: DURATION_SECONDS_BOUNDS },
          clients: this.cached.clients.map((totals) => ({ ...totals, ...(gauges.get(totals.clientId) ?? NO_GAUGES) })),
        };
        return { snapshot, pools };
      });
  }
}

interface Gauges {
  readonly rttMs: number | null;
  readonly throughputInMbps: number | null;
  readonly throughputOutMbps: number | null;
  readonly lossPercent: number | null;
}

const NO_GAUGES: Gauges = { rttMs: null, throughputInMbps: null, throughputOutMbps: null, lossPercent: null };

/** Of a client with several connections: throughput is their sum, RTT and loss are those of the newest window. */
async function readGauges(trx: Database): Promise<Map<string, Gauges>> {
  const { rows } = await sql<{
    client_id: string;
    rtt: number | null;
    throughput_in: number;
    throughput_out: number;
    loss: number | null;
  }>`
    SELECT g.client_id, sum(g.throughput_in_mbps) AS throughput_in, sum(g.throughput_out_mbps) AS throughput_out,
      (array_agg(g.rtt_ms ORDER BY g.window_end DESC) FILTER (WHERE g.rtt_ms IS NOT NULL))[1] AS rtt,
      (array_agg(g.loss_percent ORDER BY g.window_end DESC) FILTER (WHERE g.loss_percent IS NOT NULL))[1] AS loss
    FROM (${recentWindows()}) g JOIN connections c USING (connection_id)
    WHERE c.state = 'open'
    GROUP BY g.client_id`.execute(trx);
  return new Map(
    rows.map((row) => [
      row.client_id,
      {
        rttMs: row.rtt,
        throughputInMbps: row.throughput_in,
        throughputOutMbps: row.throughput_out,
        lossPercent: row.loss,
      },
    ]),
  );
}

function byLabel<L extends string>(labels: readonly L[], read: (label: L) => number): Record<L, number> {
  return Object.fromEntries(labels.map((label) => [label, read(label)])) as Record<L, number>;
}
