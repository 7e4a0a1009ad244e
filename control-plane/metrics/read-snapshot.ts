import { readNewestPosition } from '../log/read-newest-position.ts';
import { type PoolUsage, readPoolUsage, totalOfPools } from '../pools/pool-usage.ts';
import { DURATION_SECONDS_BOUNDS, LATENCY_MS_BOUNDS } from '../projections/histogram-buckets.ts';
import { holdProjectionTables } from '../projections/hold-tables.ts';
import { readTrafficFold } from '../projections/unfolded-traffic.ts';
import type { Database } from '../storage/database.ts';
import { CLUSTER_FAMILIES } from './contract.ts';
import { type ClientTotalsSample, readClientTotals } from './read-client-totals.ts';
import { NO_GAUGES, readGauges } from './read-gauges.ts';
import type { ClusterSnapshot } from './render-cluster.ts';

export interface SnapshotAndPools {
  readonly snapshot: ClusterSnapshot;
  readonly pools: readonly PoolUsage[];
}

/** Reads everything that the cluster's metrics show, all but the gauges as of one position of the log. */
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

  async read(): Promise<SnapshotAndPools> {
    // Gauges are of the last seconds, whatever the position; they take as long as all the rest.
    const [{ clients, pools, ...figures }, gauges] = await Promise.all([this.readFigures(), readGauges(this.database)]);
    const snapshot: ClusterSnapshot = {
      ...figures,
      pool: totalOfPools(pools),
      bounds: { latency: LATENCY_MS_BOUNDS, duration: DURATION_SECONDS_BOUNDS },
      clients: clients.map((totals) => ({ ...totals, ...(gauges.get(totals.clientId) ?? NO_GAUGES) })),
    };
    return { snapshot, pools };
  }

  private readFigures(): Promise<Figures> {
    return this.database
      .transaction()
      .setIsolationLevel('repeatable read')
      .setAccessMode('read only')
      .execute(async (trx) => {
        await holdProjectionTables(trx);
        const fold = await readTrafficFold(trx);
        const asOf = [await readNewestPosition(trx), fold.position, fold.slices].join('/');
        if (this.cached?.asOf !== asOf) this.cached = { asOf, clients: await readClientTotals(trx) };
        const { clients } = this.cached;
        const counters = await trx.selectFrom('event_counters').select(['name', 'label', 'value']).execute();
        const counter = (name: string, label: string) =>
          counters.find((row) => row.name === name && row.label === label)?.value ?? 0;
        const active = await trx
          .selectFrom('connections')
          .select(({ fn }) => fn.countAll<number>().as('count'))
          .where('state', '=', 'open')
          .executeTakeFirstOrThrow();
        return {
          activeConnections: active.count,
          connections: byLabel(CLUSTER_FAMILIES.connections.labels.status, (label) => counter('connections', label)),
          errors: byLabel(CLUSTER_FAMILIES.errors.labels.type, (label) => counter('errors', label)),
          clients,
          pools: await readPoolUsage(trx),
        };
      });
  }
}

/** What is read as of one position. */
interface Figures extends Pick<ClusterSnapshot, 'activeConnections' | 'connections' | 'errors'> {
  readonly clients: readonly ClientTotalsSample[];
  readonly pools: readonly PoolUsage[];
}

function byLabel<L extends string>(labels: readonly L[], read: (label: L) => number): Record<L, number> {
  return Object.fromEntries(labels.map((label) => [label, read(label)])) as Record<L, number>;
}
