import { sql } from 'kysely';
import type { NatsConnection } from 'nats';
import type { Logger } from '../../shared/log/logger.ts';
import { effectiveState, type NodeState } from '../presence/node-states.ts';
import type { Database } from '../storage/database.ts';
import type { Term } from '../storage/term.ts';
import { updateClientSeries } from './client-series.ts';
import type { ControlMetrics } from './control-metrics.ts';
import { readProjectionStatus } from './projection-status.ts';
import { SnapshotReader } from './read-snapshot.ts';
import { ClusterRenderer } from './render-cluster.ts';
import { UnsoundAddresses } from './unsound-addresses.ts';

/** Prometheus' text format, as its scrapers ask for it. */
export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

export interface MetricsServiceOptions {
  readonly database: Database;
  readonly nats: () => NatsConnection | undefined;
  /** How far each node's clock is ahead, seconds, as the leader sees it. */
  readonly clockSkews: () => ReadonlyMap<string, number>;
  readonly clientLimit: number;
  readonly leadership: { currentTerm(): Term | undefined; isConfirmed(): boolean };
  readonly control: ControlMetrics;
  readonly log: Logger;
}

/** Answers scrapes: the families of the cluster where this process is its confirmed leader, and its own ones always. */
export class MetricsService {
  private readonly options: MetricsServiceOptions;
  private readonly reader: SnapshotReader;
  private readonly renderer = new ClusterRenderer();
  private readonly unsound: UnsoundAddresses;
  private running: Promise<string> | undefined;

  constructor(options: MetricsServiceOptions) {
    this.options = options;
    this.reader = new SnapshotReader(options.database);
    this.unsound = new UnsoundAddresses(options.database);
  }

  /** The text of one scrape. Scrapes that come while one is under way share its answer. */
  scrape(): Promise<string> {
    this.running ??= this.render().finally(() => {
      this.running = undefined;
    });
    return this.running;
  }

  private async render(): Promise<string> {
    const { control, database, leadership, log } = this.options;
    const nats = this.options.nats();
    const term = leadership.currentTerm();
    const isLeader = term !== undefined && leadership.isConfirmed();
    const [status, cluster] = await Promise.allSettled([
      readProjectionStatus(database, nats),
      isLeader ? this.renderCluster(term) : '',
    ]);
    const failed = [status, cluster].find((result) => result.status === 'rejected');
    if (failed) log.warn({ err: failed.reason }, 'the metrics of the cluster cannot be read');
    const databaseUp = status.status === 'fulfilled';
    if (databaseUp) control.setProjection(status.value);
    const natsUp = databaseUp ? status.value.lagEvents !== null : nats !== undefined && !nats.isClosed();
    const isRead = databaseUp && cluster.status === 'fulfilled';
    if (!isRead || !isLeader) control.clearCluster();
    // Reading takes time, in which leadership can have gone.
    const isStillLeader = leadership.isConfirmed();
    control.setProcess({ leader: isStillLeader, databaseUp, natsUp });
    return (isRead && isStillLeader ? cluster.value : '') + (await control.registry.metrics());
  }

  private async renderCluster(term: Term): Promise<string> {
    const { control, database, clientLimit, clockSkews } = this.options;
    const startedAt = performance.now();
    if (await updateClientSeries(database, term, clientLimit)) this.reader.forget();
    const [{ snapshot, pools }, nodes, unsound] = await Promise.all([
      this.reader.read(),
      countNodes(database),
      this.unsound.count(),
    ]);
    const text = this.renderer.render(snapshot);
    const renderSeconds = (performance.now() - startedAt) / 1000;
    control.setCluster({ pools, nodes, clockSkews: clockSkews(), renderSeconds, unsound });
    return text;
  }
}

async function countNodes(database: Database): Promise<Map<NodeState, number>> {
  const { rows } = await sql<{ state: NodeState; nodes: number }>`
    SELECT ${effectiveState} AS state, count(*) AS nodes
    FROM nodes n LEFT JOIN node_presence p USING (node) GROUP BY 1`.execute(database);
  return new Map(rows.map(({ state, nodes }) => [state, nodes]));
}
