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
    let natsUp = nats !== undefined && !nats.isClosed();
    let cluster = '';
    let databaseUp = false;
    try {
      const status = await readProjectionStatus(database, nats);
      control.setProjection(status);
      databaseUp = true;
      natsUp = status.lagEvents !== null;
      const term = leadership.currentTerm();
      if (term && leadership.isConfirmed()) cluster = await this.renderCluster(term);
      else control.clearCluster();
    } catch (error) {
      control.clearCluster();
      log.warn({ err: error }, 'the metrics of the cluster cannot be read');
    }
    // Reading takes time, in which leadership can have gone.
    if (!leadership.isConfirmed()) cluster = '';
    control.setProcess({ leader: leadership.isConfirmed(), databaseUp, natsUp });
    return cluster + (await control.registry.metrics());
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
