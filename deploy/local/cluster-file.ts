import { rmSync } from 'node:fs';
import type { Cluster } from './cluster.ts';
import { readIfPresent, writePrivateFile } from './secret-file.ts';

/** The content of `cluster.json`: where everything is, with the secrets that it takes to use it. */
export interface ClusterFile {
  readonly controlPlaneUrl: string;
  readonly adminToken: string;
  readonly databaseUrl: string;
  readonly natsUrl: string;
  readonly nodes: readonly { id: string; url: string; serverName: string; metricsUrl: string; netns: string }[];
  readonly clients: readonly { id: string; netns: string; tun: string; addresses: readonly string[]; node: string }[];
}

export function describeCluster(cluster: Cluster): ClusterFile {
  return {
    controlPlaneUrl: cluster.controlPlaneUrl,
    adminToken: cluster.adminToken,
    databaseUrl: cluster.databaseUrl,
    natsUrl: cluster.natsUrl,
    nodes: cluster.nodes.map(({ id, url, serverName, metricsUrl, place }) => {
      return { id, url, serverName, metricsUrl, netns: place.namespace };
    }),
    clients: cluster.clients.map((client) => ({
      id: client.id,
      netns: client.place.namespace,
      tun: client.tun,
      addresses: client.status()?.addresses ?? [],
      node: client.node.id,
    })),
  };
}

/** Readable by its owner only. */
export function writeClusterFile(path: string, cluster: Cluster): void {
  writePrivateFile(path, `${JSON.stringify(describeCluster(cluster), null, 2)}\n`);
}

/** Removes it, unless another cluster has put its own there meanwhile. */
export function removeClusterFile(path: string, cluster: Cluster): void {
  const text = readIfPresent(path);
  if (text === undefined) return;
  const { adminToken } = JSON.parse(text) as ClusterFile;
  if (adminToken === cluster.adminToken) rmSync(path, { force: true });
}
