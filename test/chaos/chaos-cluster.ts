import type { Cluster } from '../../deploy/local/cluster.ts';
import { httpRequest, isOk, scrape } from '../../deploy/local/http-client.ts';
import type { TrafficReport } from '../../deploy/local/traffic-report.ts';
import { waitFor } from '../../deploy/local/wait-for.ts';
import type { SimulatedNodesProcess } from '../support/simulated-node/simulated-nodes-process.ts';
import type { TcpProxy } from '../support/tcp-proxy.ts';
import { type ChaosParts, type ChaosPartsOptions, type Replica, startChaosParts } from './chaos-parts.ts';
import type { SmallDisk } from './small-disk.ts';
import { Supervised } from './supervised.ts';

const SUPERVISION_MS = 250;
const READY_TIMEOUT_MS = 60_000;
const DOWNLOAD_BYTES = 500_000;
const DOWNLOAD_PAUSE_MS = 200;
/** What a driver whose downloads hang is waited for. */
const TRAFFIC_STOP_MS = 1_000;

export interface Roles {
  readonly leader: Replica;
  readonly standby: Replica;
}

/**
 * What chaos acts on: two nodes with two clients and traffic, six simulated nodes in two processes, two control planes, NATS and
 * Postgres, all real processes, and the links and the disk between them.
 */
export class ChaosCluster implements ChaosParts {
  readonly cluster: Cluster;
  readonly replicas: readonly Replica[];
  readonly nodes: readonly Supervised[];
  readonly fleets: readonly SimulatedNodesProcess[];
  readonly fleetProcesses: readonly Supervised[];
  readonly disk: SmallDisk;
  readonly fleetLink: TcpProxy;
  readonly natsLink: TcpProxy;
  readonly postgresLink: TcpProxy;
  #supervision: NodeJS.Timeout | undefined;
  #leaderPid: number | undefined;
  #asking = false;

  private constructor(parts: ChaosParts) {
    ({
      cluster: this.cluster,
      replicas: this.replicas,
      fleets: this.fleets,
      disk: this.disk,
      fleetLink: this.fleetLink,
      natsLink: this.natsLink,
      postgresLink: this.postgresLink,
    } = parts);
    this.nodes = this.cluster.nodes.map(({ id, service }) => new Supervised(id, service));
    this.fleetProcesses = this.fleets.map(
      (fleet) => new Supervised(fleet.service.name, fleet.service, () => fleet.launch()),
    );
  }

  /** Returns when all processes run and have been let in. What was started is stopped when it fails. */
  static async start(options: ChaosPartsOptions): Promise<ChaosCluster> {
    const chaos = new ChaosCluster(await startChaosParts(options));
    try {
      await chaos.untilReady();
      return chaos;
    } catch (error) {
      await chaos.stop().catch(() => undefined);
      throw error;
    }
  }

  get processes(): readonly Supervised[] {
    return [...this.replicas.map(({ process }) => process), ...this.nodes, ...this.fleetProcesses];
  }

  /** The replica that Postgres said leads when it last answered, and the other one. */
  get roles(): Roles {
    const [first, second] = this.replicas as [Replica, Replica];
    return second.process.pid === this.#leaderPid
      ? { leader: second, standby: first }
      : { leader: first, standby: second };
  }

  async askWhoLeads(): Promise<Roles> {
    const [row] = await this.cluster.sql<{ holder: string | null }>('SELECT holder FROM leadership');
    this.#leaderPid = Number(row?.holder?.split('/')[1]);
    return this.roles;
  }

  /** Starts what was stopped, and from now on what ends; clients and simulated nodes go to work. */
  async begin(): Promise<void> {
    for (const process of this.processes) {
      process.release();
      await process.look();
    }
    await this.untilReady();
    for (const client of this.cluster.clients) if (!client.service.running()) await client.service.start();
    await this.#startTraffic();
    let looking = Promise.resolve();
    this.#supervision = setInterval(() => {
      looking = looking.then(() => this.#look());
    }, SUPERVISION_MS);
  }

  /** All processes run and have what they need. */
  async untilReady(): Promise<void> {
    const ready = async () => {
      const urls = [...this.replicas.map(({ url }) => url), ...this.cluster.nodes.map(({ httpUrl }) => httpUrl)];
      for (const url of urls) if (!(await isOk(`${url}/readyz`))) return false;
      return this.fleets.every((fleet) => {
        const status = fleet.status();
        const size = fleet.nodes.length;
        return status?.connected === size && status?.supplied === size;
      });
    };
    await waitFor(ready, { timeoutMs: READY_TIMEOUT_MS, what: 'all processes to be ready', intervalMs: 200 });
  }

  /**
   * Waits for tunnels that are still to come back, ends all connections, and waits until everything that any node accepted is
   * committed, and traffic folded. Says what each client has downloaded, bytes.
   */
  async drain(): Promise<Record<string, number>> {
    const disturbed = await this.#stopTraffic();
    const isConnected = () => this.cluster.clients.every((client) => client.status()?.state === 'connected');
    await waitFor(isConnected, { timeoutMs: READY_TIMEOUT_MS, what: 'all tunnels' });
    // Anew, since a download that hangs could keep a driver for longer than the tunnel needs.
    await this.#startTraffic();
    const carries = () => this.cluster.clients.every((client) => bytesOf(client.traffic()) >= DOWNLOAD_BYTES);
    await waitFor(carries, { timeoutMs: READY_TIMEOUT_MS, what: 'a download through each tunnel' });
    const quiet = await this.#stopTraffic();
    const downloaded = Object.fromEntries([...disturbed].map(([id, bytes]) => [id, bytes + (quiet.get(id) ?? 0)]));
    await Promise.all(this.cluster.clients.map((client) => client.service.stop()));
    for (const fleet of this.fleets) fleet.endLoad();
    await waitFor(() => this.#areNodesEmpty(), { timeoutMs: READY_TIMEOUT_MS, what: 'the end of all tunnels' });
    const isDrained = () =>
      this.fleets.every((fleet) => {
        const status = fleet.status();
        return status?.loadEnded && status.connections === 0 && status.depth === 0;
      });
    await waitFor(isDrained, { timeoutMs: READY_TIMEOUT_MS, what: 'empty spools of the simulated nodes' });
    await this.cluster.untilProjected(READY_TIMEOUT_MS);
    const { leader } = await this.askWhoLeads();
    const isQuiet = async () => {
      const { body } = await httpRequest('GET', `${leader.url}/v1/projection`, { token: this.cluster.adminToken });
      const status = JSON.parse(body);
      const [traffic] = await this.cluster.sql<{ unfolded: string }>(
        'SELECT count(*) AS unfolded FROM traffic t, traffic_fold f WHERE t.position > f.position',
      );
      return status.lagEvents === 0 && status.outbox === 0 && status.parked === 0 && Number(traffic?.unfolded) === 0;
    };
    await waitFor(isQuiet, { timeoutMs: READY_TIMEOUT_MS, what: 'an idle projector' });
    clearInterval(this.#supervision);
    return downloaded;
  }

  /** Stops the nodes, so that their state on disk can be read. */
  async stopNodes(): Promise<void> {
    await Promise.all([...this.nodes, ...this.fleetProcesses].map((process) => process.stop()));
  }

  async stop(): Promise<void> {
    clearInterval(this.#supervision);
    await Promise.all(this.processes.map((process) => process.stop()));
    for (const link of [this.fleetLink, this.natsLink, this.postgresLink]) link.close();
    await this.disk.unmount();
    await this.cluster.stop();
  }

  async #startTraffic(): Promise<void> {
    for (const client of this.cluster.clients)
      await client.startTraffic({ bytesPerDownload: DOWNLOAD_BYTES, pauseMs: DOWNLOAD_PAUSE_MS });
  }

  /** What each client has downloaded since it was started, bytes. */
  async #stopTraffic(): Promise<ReadonlyMap<string, number>> {
    const { clients } = this.cluster;
    return new Map(
      await Promise.all(
        clients.map(async (client) => [client.id, bytesOf(await client.stopTraffic(TRAFFIC_STOP_MS))] as const),
      ),
    );
  }

  /** A node that has heard nothing of the end of a client notices it after QUIC's idle timeout. */
  async #areNodesEmpty(): Promise<boolean> {
    for (const { metricsUrl } of this.cluster.nodes) {
      const open = (await scrape(metricsUrl)).filter(({ name }) => name === 'masque_vpn_node_active_connections');
      if (open.length === 0 || open.some(({ value }) => value > 0)) return false;
    }
    return true;
  }

  async #look(): Promise<void> {
    // A Postgres that is frozen answers late, one that is away not at all.
    if (!this.#asking) {
      this.#asking = true;
      void this.askWhoLeads()
        .catch(() => undefined)
        .finally(() => {
          this.#asking = false;
        });
    }
    // One that cannot be started now is tried again.
    for (const process of this.processes) await process.look().catch(() => undefined);
  }
}

const bytesOf = (report: TrafficReport | undefined): number =>
  Object.values(report?.hosts ?? {}).reduce((sum, { bytes }) => sum + bytes, 0);
