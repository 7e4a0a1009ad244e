import { CLUSTER_FAMILIES } from '../../control-plane/metrics/contract.ts';
import { DURATION_SECONDS_BOUNDS, LATENCY_MS_BOUNDS } from '../../control-plane/projections/histogram-buckets.ts';
import type { Cluster } from '../../deploy/local/cluster.ts';
import type { Sample } from '../../deploy/local/prometheus-text.ts';
import { ADDRESS_REST_MS } from '../../shared/ip/block.ts';

/** Values by name and labels, as `seriesOf` writes those. */
export type Series = ReadonlyMap<string, number>;

const F = CLUSTER_FAMILIES;
/** These are of the last seconds, and follow from no rows. */
const PASSING: ReadonlySet<string> = new Set([F.rtt.name, F.throughput.name, F.packetLoss.name]);
const isOfCluster = ({ name }: Sample) => /^masque_vpn_(?!control_)/.test(name) && !PASSING.has(name);

export function seriesOf(name: string, labels: Readonly<Record<string, string>> = {}): string {
  return `${name}${JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)))}`;
}

/** In words, one for each series of the cluster in which a scrape is not what SQL says. */
export function compareSeries(inSql: Series, samples: readonly Sample[]): string[] {
  const shown = new Map(
    samples.filter(isOfCluster).map(({ name, labels, value }) => [seriesOf(name, labels), value] as const),
  );
  return [...new Set([...inSql.keys(), ...shown.keys()])]
    .filter((key) => inSql.get(key) !== shown.get(key))
    .map((key) => `${key} is ${shown.get(key) ?? 'missing'}, in SQL ${inSql.get(key) ?? 'missing'}`);
}

/** What the metrics have to show, from the rows that they sum up, and none of the sums. */
export async function readSeries(cluster: Pick<Cluster, 'sql'>): Promise<Series> {
  const parts = [readConnections, readClients, readErrors, readPool, readLatencies, readDurations];
  return new Map((await Promise.all(parts.map((read) => read(cluster)))).flat());
}

type Part = readonly (readonly [string, number])[];
/** `pg` gives sums as text. */
type Numbers = Readonly<Record<string, string>>;

async function readConnections({ sql }: Pick<Cluster, 'sql'>): Promise<Part> {
  const [row] = await sql<Numbers>(
    `SELECT count(established_at) AS established, count(*) FILTER (WHERE state = 'closed') AS closed,
       count(*) FILTER (WHERE state = 'open') AS open,
       (SELECT coalesce(sum(count), 0) FROM connection_failures) AS failed
     FROM connections`,
  );
  return [
    [seriesOf(F.activeConnections.name), Number(row?.open)],
    ...F.connections.labels.status.map(
      (status) => [seriesOf(F.connections.name, { status }), Number(row?.[status])] as const,
    ),
  ];
}

async function readClients({ sql }: Pick<Cluster, 'sql'>): Promise<Part> {
  const rows = await sql<Numbers & { client_id: string }>(
    `SELECT client_id, sum(bytes_in) AS "bytesReceived", sum(bytes_out) AS "bytesSent",
       sum(packets_in) AS "packetsReceived", sum(packets_out) AS "packetsSent"
     FROM connections GROUP BY client_id`,
  );
  const families = ['bytesReceived', 'bytesSent', 'packetsReceived', 'packetsSent'] as const;
  return rows.flatMap(({ client_id, ...row }) =>
    families.map((family) => [seriesOf(F[family].name, { client_id }), Number(row[family])] as const),
  );
}

async function readErrors({ sql }: Pick<Cluster, 'sql'>): Promise<Part> {
  const rows = await sql<{ type: string; count: string }>(
    `SELECT error_type AS type, sum(count) AS count FROM connection_failures GROUP BY error_type
     UNION ALL SELECT error.type, sum(error.count::bigint) FROM events e, json_each_text(e.data -> 'errors') AS error (type, count)
       WHERE e.type = 'traffic.sampled' GROUP BY error.type`,
  );
  const counts = new Map(rows.map(({ type, count }) => [type, Number(count)]));
  return F.errors.labels.type.map((type) => [seriesOf(F.errors.name, { type }), counts.get(type) ?? 0] as const);
}

/** Of one IPv4 pool. Each block, and each part of one that is granted, has an address that no client gets. */
async function readPool({ sql }: Pick<Cluster, 'sql'>): Promise<Part> {
  const [row] = await sql<Numbers>(
    `SELECT (SELECT count(*) FROM held WHERE family(address) = 4
         AND (released_at IS NULL OR released_at > clock_timestamp() - $1 * interval '1 millisecond')) AS used,
       (SELECT sum(2 ^ (32 - masklen(network)) - 2 - 2 ^ (block_prefix_v4 - masklen(network)))
         FROM pool_states, unnest(prefixes) AS network WHERE family(network) = 4)
       - (SELECT coalesce(sum(parts - 1), 0) FROM (
           SELECT count(*) AS parts FROM block_states JOIN pool_states ON block <<= ANY(prefixes)
           WHERE node IS NOT NULL AND family(block) = 4 AND masklen(block) > block_prefix_v4 AND masklen(block) < 32
           GROUP BY set_masklen(block, block_prefix_v4)) AS broken) AS total`,
    [ADDRESS_REST_MS],
  );
  const [total, used] = [Number(row?.total), Number(row?.used)];
  return [
    [seriesOf(F.poolTotal.name), total],
    [seriesOf(F.poolAvailable.name), total - used],
    [seriesOf(F.poolUsage.name), (used / total) * 100],
  ];
}

async function readLatencies({ sql }: Pick<Cluster, 'sql'>): Promise<Part> {
  const observed = `
    SELECT client_id, quantile, ms AS value FROM traffic
    CROSS JOIN LATERAL (VALUES ('0.5', latency_p50_ms), ('0.95', latency_p95_ms), ('0.99', latency_p99_ms)) AS v (quantile, ms)
    WHERE ms IS NOT NULL`;
  return readHistograms(sql, F.latency.name, observed, LATENCY_MS_BOUNDS);
}

async function readDurations({ sql }: Pick<Cluster, 'sql'>): Promise<Part> {
  const observed = `
    SELECT client_id, NULL AS quantile, duration_ms / 1000.0 AS value FROM connections
    WHERE state = 'closed' AND duration_ms IS NOT NULL`;
  return readHistograms(sql, F.duration.name, observed, DURATION_SECONDS_BOUNDS);
}

async function readHistograms(
  sql: Cluster['sql'],
  name: string,
  observed: string,
  bounds: readonly number[],
): Promise<Part> {
  const rows = await sql<{ client_id: string; quantile: string | null; sum: number; counts: string[] }>(
    `SELECT client_id, quantile, sum(value::numeric)::double precision AS sum,
       ARRAY[${[...bounds, "'infinity'"].map((bound) => `count(*) FILTER (WHERE value <= ${bound})`).join(', ')}] AS counts
     FROM (${observed}) AS observed GROUP BY client_id, quantile`,
  );
  return rows.flatMap(({ client_id, quantile, sum, counts }) => {
    const labels = quantile === null ? { client_id } : { client_id, quantile };
    const buckets = counts.map((count, i) => {
      const le = String(bounds[i] ?? '+Inf');
      return [seriesOf(`${name}_bucket`, { ...labels, le }), Number(count)] as const;
    });
    const count = Number(counts.at(-1));
    return [...buckets, [seriesOf(`${name}_sum`, labels), sum], [seriesOf(`${name}_count`, labels), count]] as const;
  });
}
