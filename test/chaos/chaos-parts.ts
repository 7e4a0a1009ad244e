import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Cluster, startCluster } from '../../deploy/local/cluster.ts';
import { createControlPlane } from '../../deploy/local/cluster-parts.ts';
import { freePort } from '../../deploy/local/free-port.ts';
import { SimulatedNodesProcess } from '../support/simulated-node/simulated-nodes-process.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { SmallDisk } from './small-disk.ts';
import { Supervised } from './supervised.ts';

const DISK_MEGABYTES = 24;
const SIMULATED_LOAD = { connections: 10, opensPerSecond: 20, churnPerSecond: 4, windowMs: 1_000 };
/** The simulated nodes that have their state on the small disk. */
export const SMALL_DISK_FLEET = 'fleet-2';
const FLEETS = { 'fleet-1': 4, [SMALL_DISK_FLEET]: 2 } as const;
/** By client: of the end of the pool, where no block is. */
export const OWN_ADDRESSES = { 'client-2': ['10.99.255.7', 'fd00:99::ffff:7'] } as const;

export interface ChaosPartsOptions {
  readonly directory: string;
  readonly progress: (line: string) => void;
  readonly signal?: AbortSignal;
}

export interface Replica {
  readonly url: string;
  readonly process: Supervised;
}

/** What a cluster under chaos is made of. */
export interface ChaosParts {
  readonly cluster: Cluster;
  readonly replicas: readonly Replica[];
  readonly fleets: readonly SimulatedNodesProcess[];
  /** Of SMALL_DISK_FLEET. */
  readonly disk: SmallDisk;
  /** Of all simulated nodes to NATS. */
  readonly fleetLink: TcpProxy;
  /** Of the second control plane. */
  readonly natsLink: TcpProxy;
  readonly postgresLink: TcpProxy;
}

/** Starts all of it; nodes may not be let in yet. What was started is stopped when it fails. */
export async function startChaosParts({ directory, progress, signal }: ChaosPartsOptions): Promise<ChaosParts> {
  const cluster = await startCluster({
    directory,
    progress,
    ...(signal && { signal }),
    clients: ['client-1', 'client-2'],
    connect: [],
    controlPlaneEnv: { LOG_LEVEL: 'info' },
  });
  const ends: (() => Promise<unknown>)[] = [() => cluster.stop()];
  try {
    for (const [id, addresses] of Object.entries(OWN_ADDRESSES))
      await cluster.api('PUT', `/v1/clients/${id}/addresses`, { addresses });
    progress('a second control plane, six simulated nodes');
    const { natsUrl, databaseUrl } = cluster;
    const proxied = async (url: string): Promise<{ proxy: TcpProxy; url: string }> => {
      const proxy = await TcpProxy.inFrontOf(url);
      ends.push(async () => proxy.close());
      return { proxy, url: proxy.over(url) };
    };
    const [fleetNats, replicaNats, replicaPostgres] = [
      await proxied(natsUrl),
      await proxied(natsUrl),
      await proxied(databaseUrl),
    ];
    const standby = createControlPlane({
      directory,
      plan: cluster.plan,
      onStart: () => undefined,
      name: 'control-plane-2',
      port: await freePort(cluster.plan.rootAddress),
      env: { DATABASE_URL: replicaPostgres.url, NATS_URL: replicaNats.url, ADMIN_TOKEN: cluster.adminToken },
    });
    ends.push(() => standby.service.stop());
    await standby.service.launch();
    const fleetDirectory = join(directory, 'fleets');
    mkdirSync(fleetDirectory, { recursive: true });
    const disk = await SmallDisk.mount(join(fleetDirectory, 'disk'), DISK_MEGABYTES);
    ends.push(() => disk.unmount());
    let number = 0;
    const fleets = Object.entries(FLEETS).map(
      ([name, size]) =>
        new SimulatedNodesProcess({
          name,
          directory: fleetDirectory,
          load: SIMULATED_LOAD,
          nodes: Array.from({ length: size }, () => {
            number++;
            return { id: `sim-${number}`, natsUrl: fleetNats.url, clients: [`sim-client-${number}`] };
          }),
          ...(name === SMALL_DISK_FLEET && { stateDirectory: disk.directory }),
        }),
    );
    for (const fleet of fleets) {
      ends.push(() => fleet.service.stop());
      await fleet.launch();
    }
    return {
      cluster,
      replicas: [
        { url: cluster.controlPlaneUrl, process: new Supervised('control-plane', cluster.controlPlane) },
        { url: standby.url, process: new Supervised('control-plane-2', standby.service) },
      ],
      fleets,
      disk,
      fleetLink: fleetNats.proxy,
      natsLink: replicaNats.proxy,
      postgresLink: replicaPostgres.proxy,
    };
  } catch (error) {
    for (let end = ends.pop(); end !== undefined; end = ends.pop()) await end().catch(() => undefined);
    throw error;
  }
}
