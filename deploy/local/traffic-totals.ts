import type { ClientStatus } from '../../data-plane/client/status-file.ts';
import type { Cluster } from './cluster.ts';
import { scrape } from './http-client.ts';
import { type Sample, sumOf } from './prometheus-text.ts';

/** Inner IP packets of one client as the cluster sees them: sent to the client, received from it. */
export interface TrafficTotals {
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly packetsSent: number;
  readonly packetsReceived: number;
}

/** The same traffic as four sides count it. */
export interface ClientTotals {
  readonly id: string;
  readonly node: string;
  /** The cluster's metrics, at the control plane. */
  readonly metrics: TrafficTotals;
  /** The connections in Postgres. */
  readonly sql: TrafficTotals;
  /** What the client counts itself, with its directions turned round. */
  readonly own: TrafficTotals;
  /** What the metrics of the nodes say. */
  readonly nodeTotals: TrafficTotals;
}

export const TOTAL_NAMES = ['bytesSent', 'bytesReceived', 'packetsSent', 'packetsReceived'] as const;

export async function collectTotals(cluster: Cluster): Promise<ClientTotals[]> {
  const clusterSamples = await scrape(`${cluster.controlPlaneUrl}/metrics`);
  const nodeSamples = (await Promise.all(cluster.nodes.map((node) => scrape(node.metricsUrl)))).flat();
  const rows = await cluster.sql<SqlTotals>(
    `SELECT client_id, sum(bytes_out) AS bytes_sent, sum(bytes_in) AS bytes_received,
            sum(packets_out) AS packets_sent, sum(packets_in) AS packets_received
       FROM connections GROUP BY client_id`,
  );
  return cluster.clients.map((client) => ({
    id: client.id,
    node: client.node.id,
    metrics: clusterTotals(clusterSamples, client.id),
    sql: sqlTotals(rows.find((row) => row.client_id === client.id)),
    own: ownTotals(client.status()),
    nodeTotals: nodeTotals(nodeSamples, client.id),
  }));
}

function clusterTotals(samples: readonly Sample[], id: string): TrafficTotals {
  const total = (name: string) => sumOf(samples, `masque_vpn_${name}_total`, { client_id: id });
  return {
    bytesSent: total('bytes_sent'),
    bytesReceived: total('bytes_received'),
    packetsSent: total('packets_sent'),
    packetsReceived: total('packets_received'),
  };
}

function nodeTotals(samples: readonly Sample[], id: string): TrafficTotals {
  const total = (what: 'bytes' | 'packets', direction: 'in' | 'out') =>
    sumOf(samples, `masque_vpn_node_${what}_total`, { client_id: id, direction });
  return {
    bytesSent: total('bytes', 'out'),
    bytesReceived: total('bytes', 'in'),
    packetsSent: total('packets', 'out'),
    packetsReceived: total('packets', 'in'),
  };
}

/** `pg` gives sums as text, because they can be larger than what a number holds exactly. */
interface SqlTotals {
  readonly client_id: string;
  readonly bytes_sent: string;
  readonly bytes_received: string;
  readonly packets_sent: string;
  readonly packets_received: string;
}

function sqlTotals(row: SqlTotals | undefined): TrafficTotals {
  return {
    bytesSent: Number(row?.bytes_sent ?? 0),
    bytesReceived: Number(row?.bytes_received ?? 0),
    packetsSent: Number(row?.packets_sent ?? 0),
    packetsReceived: Number(row?.packets_received ?? 0),
  };
}

function ownTotals(status: ClientStatus | undefined): TrafficTotals {
  return {
    bytesSent: status?.bytesReceived ?? 0,
    bytesReceived: status?.bytesSent ?? 0,
    packetsSent: status?.packetsReceived ?? 0,
    packetsReceived: status?.packetsSent ?? 0,
  };
}
