import type { Cluster } from './cluster.ts';
import { scrape } from './http-client.ts';
import { type Sample, sumOf } from './prometheus-text.ts';
import { textTable } from './text-table.ts';

const MEBI = 2 ** 20;

/** What the live table shows, taken from SQL and metrics of the control plane, and the drivers' reports. */
export interface Overview {
  readonly nodes: readonly { node: string; state: string; connections: number; addresses_out: number }[];
  readonly clients: readonly ClientLine[];
  readonly pool: { readonly total: number; readonly available: number; readonly usagePercent: number };
}

interface ClientLine {
  readonly client: string;
  readonly node: string;
  readonly state: string;
  /** What the tunnel runs over. */
  readonly over: string | null;
  readonly addresses: string | null;
  readonly rtt_ms: number | null;
  readonly in_mbps: number | null;
  readonly out_mbps: number | null;
  readonly received_mib: number;
  readonly sent_mib: number;
  readonly downloads: string;
}

export async function takeOverview(cluster: Cluster): Promise<Overview> {
  const [samples, nodes, open] = await Promise.all([
    scrape(`${cluster.controlPlaneUrl}/metrics`),
    cluster.sql<{ node: string; state: string; connections: number; addresses_out: number }>(
      `SELECT n.node, n.state,
              (SELECT count(*)::int FROM connections c WHERE c.node = n.node AND c.state = 'open') AS connections,
              (SELECT count(*)::int FROM address_assignments a WHERE a.node = n.node AND upper_inf(a.during)) AS addresses_out
         FROM nodes n ORDER BY n.node`,
    ),
    cluster.sql<{ client_id: string; node: string; state: string; over: string | null; addresses: string | null }>(
      `SELECT c.client_id, c.node, c.state, c.transport AS over, string_agg(host(a.address), ' ' ORDER BY a.id) AS addresses
         FROM connections c LEFT JOIN address_assignments a USING (connection_id)
        WHERE c.state <> 'closed' GROUP BY c.connection_id`,
    ),
  ]);
  return {
    nodes,
    clients: cluster.clients.map((client) => {
      const connection = open.find((row) => row.client_id === client.id);
      const results = Object.values(client.traffic()?.hosts ?? {});
      const sum = (pick: (result: (typeof results)[number]) => number) => results.reduce((n, r) => n + pick(r), 0);
      const broken = sum((result) => result.failed + result.corrupt);
      return {
        client: client.id,
        node: connection?.node ?? client.node.id,
        state: connection?.state ?? 'closed',
        over: connection?.over ?? null,
        addresses: connection?.addresses ?? null,
        rtt_ms: gauge(samples, 'masque_vpn_rtt_ms', { client_id: client.id }),
        in_mbps: gauge(samples, 'masque_vpn_throughput_mbps', { client_id: client.id, direction: 'in' }),
        out_mbps: gauge(samples, 'masque_vpn_throughput_mbps', { client_id: client.id, direction: 'out' }),
        received_mib: sumOf(samples, 'masque_vpn_bytes_received_total', { client_id: client.id }) / MEBI,
        sent_mib: sumOf(samples, 'masque_vpn_bytes_sent_total', { client_id: client.id }) / MEBI,
        downloads: `${sum((result) => result.intact)} intact${broken > 0 ? `, ${broken} broken` : ''}`,
      };
    }),
    pool: {
      total: sumOf(samples, 'masque_vpn_ip_pool_total'),
      available: sumOf(samples, 'masque_vpn_ip_pool_available'),
      usagePercent: sumOf(samples, 'masque_vpn_ip_pool_usage_percent'),
    },
  };
}

/** The live table, a line an entry. */
export function renderOverview(overview: Overview): string {
  const { total, available, usagePercent } = overview.pool;
  const pool = `pool: ${total - available} of ${total} addresses in use or resting (${usagePercent.toFixed(3)} %)`;
  return [textTable(overview.nodes), '', textTable(overview.clients), '', `  ${pool}`].join('\n');
}

/** The same in one line, for logs. */
export function summarizeOverview(overview: Overview): string {
  const up = overview.nodes.filter((node) => node.state === 'up').length;
  const clients = overview.clients.map(
    (c) => `${c.client} ${c.state} ${format(c.in_mbps)}/${format(c.out_mbps)} Mbit/s in/out rtt ${format(c.rtt_ms)} ms`,
  );
  return `${up} of ${overview.nodes.length} nodes up; ${clients.join('; ')}`;
}

const format = (value: number | null): string => (value === null ? '-' : value.toFixed(1));

function gauge(samples: readonly Sample[], name: string, labels: Record<string, string>): number | null {
  const wanted = Object.entries(labels);
  const found = samples.find((s) => s.name === name && wanted.every(([key, value]) => s.labels[key] === value));
  return found?.value ?? null;
}
