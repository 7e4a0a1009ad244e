import type { Cluster } from './cluster.ts';
import { scrape } from './http-client.ts';
import { sumOf } from './prometheus-text.ts';
import { type ClientTotals, TOTAL_NAMES } from './traffic-totals.ts';

export interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly expected: unknown;
  readonly actual: unknown;
}

/** How far the client's own count may be from the cluster's: packets that are under way when the tunnel ends. */
const OWN_COUNT_TOLERANCE = 0.02;

/** Ours: of a table that should be empty. */
const ROWS_SHOWN = 5;

/** The tables that all stay empty in a cluster where nothing went wrong, and what each of them means. */
const NOTHING_LOST = {
  dead_letter: 'events that could not be applied',
  event_gaps: 'events that will never come',
  parked_events: 'events that wait for earlier ones',
  address_conflicts: 'assignments that overlapped',
} as const;

export function same(name: string, expected: unknown, actual: unknown): Check {
  return { name, expected, actual, ok: JSON.stringify(expected) === JSON.stringify(actual) };
}

/** While the tunnels are open: nodes, clients and the gauge of open connections. */
export async function checkRunning(cluster: Cluster): Promise<Check[]> {
  const up = await cluster.sql<{ node: string }>("SELECT node FROM nodes WHERE state = 'up' ORDER BY node");
  const open = await cluster.sql<{ client_id: string }>(
    "SELECT client_id FROM connections WHERE state = 'open' ORDER BY client_id",
  );
  const samples = await scrape(`${cluster.controlPlaneUrl}/metrics`);
  return [
    same(
      'the metrics count one active connection a client',
      cluster.clients.length,
      sumOf(samples, 'masque_vpn_active_connections_total'),
    ),
    same(
      'all nodes are up',
      cluster.nodes.map((node) => node.id),
      up.map((row) => row.node),
    ),
    same(
      'every client has one open connection',
      cluster.clients.map((client) => client.id),
      open.map((row) => row.client_id),
    ),
  ];
}

/** What the traffic drivers saw. */
export function checkTraffic(cluster: Cluster): Check[] {
  return cluster.clients.flatMap((client) => {
    const report = client.traffic();
    const hosts = Object.entries(report?.hosts ?? {});
    const pings = `${report?.pingsAnswered ?? 0} of ${report?.pingsSent ?? 0}`;
    return [
      {
        name: `${client.id}: pings through the tunnel are answered`,
        ok: report !== undefined && report.pingsSent > 0 && report.pingsAnswered === report.pingsSent,
        expected: `${report?.pingsSent || 'some'} of ${report?.pingsSent || 'some'}`,
        actual: pings,
      },
      {
        name: `${client.id}: there is a server to download from`,
        ok: hosts.length > 0,
        expected: 'at least 1',
        actual: hosts.length,
      },
      ...hosts.map(([host, result]) => ({
        name: `${client.id}: every download from ${host} is intact`,
        ok: result.downloads > 0 && result.intact === result.downloads,
        expected: `${result.downloads || 'some'} of ${result.downloads || 'some'}`,
        actual: `${result.intact} of ${result.downloads}${result.intact < result.downloads ? ` (${report?.lastError})` : ''}`,
      })),
    ];
  });
}

/** After the tunnels are closed and projected: the four counts of each client. */
export function checkTotals(clients: readonly ClientTotals[]): Check[] {
  return clients.flatMap((client) => [
    same(`${client.id}: metrics = SQL`, client.sql, client.metrics),
    same(`${client.id}: metrics = the node's last totals`, client.nodeTotals, client.metrics),
    {
      name: `${client.id}: metrics within ${OWN_COUNT_TOLERANCE * 100} % of the client's own count`,
      ok: TOTAL_NAMES.every(
        (name) =>
          client.own[name] > 0 &&
          Math.abs(client.metrics[name] - client.own[name]) <= client.own[name] * OWN_COUNT_TOLERANCE,
      ),
      expected: client.own,
      actual: client.metrics,
    },
  ]);
}

/** What holds of any history in Postgres once all connections have ended. */
export async function checkHistory(cluster: Cluster): Promise<Check[]> {
  const count = counting(cluster);
  return [
    same(
      'the traffic windows of every connection add up to its totals',
      0,
      await count(
        `SELECT count(*) AS n FROM connections c CROSS JOIN LATERAL (
            SELECT coalesce(sum(t.bytes_in), 0) AS bytes_in, coalesce(sum(t.bytes_out), 0) AS bytes_out,
                   coalesce(sum(t.packets_in), 0) AS packets_in, coalesce(sum(t.packets_out), 0) AS packets_out
              FROM traffic t WHERE t.connection_id = c.connection_id) AS windows
          WHERE (c.bytes_in, c.bytes_out, c.packets_in, c.packets_out)
             <> (windows.bytes_in, windows.bytes_out, windows.packets_in, windows.packets_out)`,
      ),
    ),
    {
      name: 'every client has connections and addresses in SQL',
      ...(await clientsWithAddresses(cluster)),
    },
    ...(await checkLedger(cluster)),
    ...(await checkNothingLost(cluster)),
  ];
}

/** Once all connections have ended: every end is on record, and no address was anybody else's at the time. */
export async function checkLedger(cluster: Pick<Cluster, 'sql'>): Promise<Check[]> {
  const count = counting(cluster);
  return [
    same(
      'every connection has an end and a reason',
      0,
      await count(
        `SELECT count(*) AS n FROM connections
          WHERE state <> 'closed' OR closed_at IS NULL OR reason IS NULL OR established_at IS NULL`,
      ),
    ),
    same(
      'no two assignments of an address overlap',
      0,
      await count(
        `SELECT count(*) AS n FROM address_assignments a JOIN address_assignments b
             ON a.id < b.id AND a.address = b.address AND a.during && b.during`,
      ),
    ),
    same(
      'every address handed out lies in a block that its node held at the time',
      0,
      await count(
        `SELECT count(*) AS n FROM address_assignments a
          WHERE NOT EXISTS (
            SELECT 1 FROM block_grants g
             WHERE g.node = a.node AND g.block = a.block AND a.address <<= g.block AND a.during <@ g.during)`,
      ),
    ),
    same(
      'every assignment has ended with its connection',
      0,
      await count('SELECT count(*) AS n FROM address_assignments WHERE upper_inf(during) OR end_reason IS NULL'),
    ),
  ];
}

/** Nothing was set aside, given up, or waits for something that does not come. */
export function checkNothingLost(cluster: Pick<Cluster, 'sql'>): Promise<Check[]> {
  return Promise.all(
    Object.entries(NOTHING_LOST).map(async ([table, meaning]) =>
      same(
        `no ${meaning} (${table})`,
        [],
        await cluster.sql(
          `SELECT count(*) OVER () AS of, to_jsonb(t) - 'payload' - 'envelope' AS row FROM ${table} t LIMIT ${ROWS_SHOWN}`,
        ),
      ),
    ),
  );
}

const counting = (cluster: Pick<Cluster, 'sql'>) => async (sql: string) =>
  Number((await cluster.sql<{ n: string }>(sql))[0]?.n);

async function clientsWithAddresses(cluster: Cluster): Promise<Omit<Check, 'name'>> {
  const rows = await cluster.sql<{ client_id: string }>(
    `SELECT DISTINCT c.client_id FROM connections c
       JOIN address_assignments a USING (connection_id) ORDER BY c.client_id`,
  );
  const { ok, expected, actual } = same(
    '',
    cluster.clients.map((client) => client.id),
    rows.map((row) => row.client_id),
  );
  return { ok, expected, actual };
}
