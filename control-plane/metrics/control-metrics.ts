import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { PoolUsage } from '../pools/pool-usage.ts';
import type { NodeState } from '../presence/node-states.ts';
import type { ProjectionStatus } from './projection-status.ts';
import type { UnsoundCounts } from './unsound-addresses.ts';

const NODE_STATES: readonly NodeState[] = ['up', 'draining', 'lost', 'stopped'];
const HTTP_SECONDS_BOUNDS = [0.005, 0.02, 0.1, 0.5, 2, 10];

interface ClusterFigures {
  readonly pools: readonly PoolUsage[];
  /** How many there are, by state. */
  readonly nodes: ReadonlyMap<string, number>;
  /** By node, seconds. */
  readonly clockSkews: ReadonlyMap<string, number>;
  readonly renderSeconds: number;
  readonly unsound: UnsoundCounts;
}

/** What this process says of itself: families masque_vpn_control_*, in a registry of its own. */
export class ControlMetrics {
  readonly registry = new Registry();
  private readonly leader = this.gauge('leader', 'Whether this process leads: 1 or 0');
  private readonly databaseUp = this.gauge('database_up', 'Whether Postgres answered this scrape: 1 or 0');
  private readonly natsUp = this.gauge('nats_up', 'Whether NATS answered this scrape: 1 or 0');
  private readonly lagEvents = this.gauge('projection_lag_events', 'Messages of the stream that are not projected yet');
  private readonly lagSeconds = this.gauge(
    'projection_lag_seconds',
    'Age of the oldest message that is not projected yet',
  );
  private readonly position = this.gauge('projection_position', 'Position of the newest event of the log');
  private readonly parked = this.gauge('parked_events', 'Events that wait for an earlier one');
  private readonly deadLetters = this.gauge('dead_letters', 'Events and messages that could not be applied');
  private readonly gaps = this.gauge('event_gaps', 'Gaps in the events of nodes that will never be filled');
  private readonly conflicts = this.gauge('address_conflicts', 'Address assignments that overlapped another one');
  private readonly parkedSeconds = this.gauge(
    'parked_oldest_seconds',
    'For how long the first of the events that wait for an earlier one has waited',
  );
  private readonly leaked = this.gauge(
    'addresses_leaked',
    'Addresses that are held though their connections are closed, as the leader counted within the last minute',
  );
  private readonly orphaned = this.gauge(
    'addresses_orphaned',
    'Addresses held without a lease of their block or for unknown connections, as the leader counted within the last minute',
  );
  private readonly outbox = this.gauge('outbox_events', 'Own events that are not published yet');
  private readonly renderSeconds = this.gauge(
    'metrics_render_seconds',
    'Time that the last scrape of the cluster families took',
  );
  private readonly startTime = this.gauge('start_time_seconds', 'When this process started, seconds since 1970');
  private readonly memory = this.gauge('resident_memory_bytes', 'Memory of this process');
  private readonly pool = new Gauge({
    name: 'masque_vpn_control_pool_addresses',
    help: 'Client addresses of each pool and family: total, in granted blocks, used (held or resting), available',
    labelNames: ['pool', 'family', 'state'],
    registers: [this.registry],
  });
  private readonly poolExhaustion = new Gauge({
    name: 'masque_vpn_control_pool_exhaustion_seconds',
    help: 'Until nothing of a pool is available if use grows on as in the last hour; absent where it does not grow',
    labelNames: ['pool', 'family'],
    registers: [this.registry],
  });
  private readonly nodes = new Gauge({
    name: 'masque_vpn_control_nodes',
    help: 'Nodes by state',
    labelNames: ['state'],
    registers: [this.registry],
  });
  private readonly clockSkew = new Gauge({
    name: 'masque_vpn_control_node_clock_skew_seconds',
    help: "How far each node's clock is ahead of Postgres', by the time of its newest live event; below 0: behind",
    labelNames: ['node'],
    registers: [this.registry],
  });
  private readonly requests = new Counter({
    name: 'masque_vpn_control_http_requests_total',
    help: 'HTTP requests by route and status',
    labelNames: ['method', 'route', 'status'],
    registers: [this.registry],
  });
  private readonly requestSeconds = new Histogram({
    name: 'masque_vpn_control_http_request_duration_seconds',
    help: 'Time to answer HTTP requests',
    labelNames: ['route'],
    buckets: HTTP_SECONDS_BOUNDS,
    registers: [this.registry],
  });

  constructor() {
    this.startTime.set(Date.now() / 1000 - process.uptime());
  }

  /** One answered HTTP request. `route` is the pattern, not the URL, so that ids make no series. */
  countRequest(method: string, route: string, status: number, seconds: number): void {
    this.requests.inc({ method, route, status: String(status) });
    this.requestSeconds.observe({ route }, seconds);
  }

  setProcess(values: { readonly leader: boolean; readonly databaseUp: boolean; readonly natsUp: boolean }): void {
    this.leader.set(Number(values.leader));
    this.databaseUp.set(Number(values.databaseUp));
    this.natsUp.set(Number(values.natsUp));
    this.memory.set(process.memoryUsage.rss());
  }

  setProjection(status: ProjectionStatus): void {
    this.position.set(status.position);
    this.parked.set(status.parked);
    this.parkedSeconds.set(status.parkedSeconds);
    this.deadLetters.set(status.deadLetters);
    this.gaps.set(status.gaps);
    this.conflicts.set(status.addressConflicts);
    this.outbox.set(status.outbox);
    // NaN is Prometheus' way to say that there is no value.
    this.lagEvents.set(status.lagEvents ?? Number.NaN);
    this.lagSeconds.set(status.lagSeconds ?? Number.NaN);
  }

  /** What only the leader tells about the whole cluster. */
  setCluster({ pools, nodes, clockSkews, renderSeconds, unsound }: ClusterFigures): void {
    this.clearCluster();
    for (const { pool, family: number, exhaustionSeconds, ...usage } of pools) {
      const family = String(number);
      if (exhaustionSeconds !== null) this.poolExhaustion.set({ pool, family }, exhaustionSeconds);
      for (const state of ['total', 'granted', 'used', 'available'] as const) {
        this.pool.set({ pool, family, state }, usage[state]);
      }
    }
    for (const state of NODE_STATES) this.nodes.set({ state }, nodes.get(state) ?? 0);
    for (const [node, seconds] of clockSkews) this.clockSkew.set({ node }, seconds);
    this.renderSeconds.set(renderSeconds);
    this.leaked.set(unsound.leaked);
    this.orphaned.set(unsound.orphaned);
  }

  clearCluster(): void {
    this.pool.reset();
    this.poolExhaustion.reset();
    this.nodes.reset();
    this.clockSkew.reset();
    this.leaked.set(Number.NaN);
    this.orphaned.set(Number.NaN);
  }

  private gauge(name: string, help: string): Gauge {
    return new Gauge({ name: `masque_vpn_control_${name}`, help, registers: [this.registry] });
  }
}
