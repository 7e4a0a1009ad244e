import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type Check, checkLedger, checkNothingLost, same } from '../../deploy/local/checks.ts';
import type { Cluster } from '../../deploy/local/cluster.ts';
import { scrape } from '../../deploy/local/http-client.ts';
import { sumOf } from '../../deploy/local/prometheus-text.ts';
import { waitFor } from '../../deploy/local/wait-for.ts';
import type { ChaosCluster } from './chaos-cluster.ts';
import { OWN_ADDRESSES } from './chaos-parts.ts';
import { some } from './stock.ts';

const PROJECTED_TIMEOUT_MS = 30_000;
const CONNECTIONS_SHOWN = 10;

/** What a node's state on disk says of its spool. */
interface SpoolOnDisk {
  readonly node: string;
  readonly epoch: string;
  readonly lastSeq: number;
}

/** Of a quiet cluster, while all processes run: metrics and SQL say the same. */
export async function checkMetrics(chaos: ChaosCluster): Promise<Check[]> {
  const unfinished = () =>
    chaos.cluster.sql<Record<string, string>>(
      `SELECT connection_id, client_id, node, incarnation, state, established_at, presumed_at
       FROM connections WHERE state <> 'closed' ORDER BY established_at LIMIT ${CONNECTIONS_SHOWN}`,
    );
  const haveAllEnded = async () => (await unfinished()).length === 0;
  // An end can wait at its node for a disk that was full. What has none then is in the check.
  await waitFor(haveAllEnded, { timeoutMs: PROJECTED_TIMEOUT_MS, what: 'the ends of all connections' }).catch(
    () => undefined,
  );
  const { leader } = await chaos.askWhoLeads();
  const samples = await scrape(`${leader.url}/metrics`);
  const [row] = await chaos.cluster.sql<Record<string, string>>(
    `SELECT count(established_at) AS established, count(*) FILTER (WHERE state = 'closed') AS closed,
       count(*) FILTER (WHERE state = 'open') AS open, count(DISTINCT client_id) AS clients,
       coalesce(sum(bytes_in), 0) AS bytes_received, coalesce(sum(bytes_out), 0) AS bytes_sent,
       coalesce(sum(packets_in), 0) AS packets_received, coalesce(sum(packets_out), 0) AS packets_sent,
       (SELECT coalesce(sum(count), 0) FROM connection_failures) AS failed
     FROM connections`,
  );
  const metric = (name: string, labels?: Record<string, string>) => sumOf(samples, `masque_vpn_${name}`, labels);
  const shown = {
    established: metric('connections_total', { status: 'established' }),
    closed: metric('connections_total', { status: 'closed' }),
    open: metric('active_connections_total'),
    clients: samples.filter(({ name }) => name === 'masque_vpn_bytes_sent_total').length,
    bytes_received: metric('bytes_received_total'),
    bytes_sent: metric('bytes_sent_total'),
    packets_received: metric('packets_received_total'),
    packets_sent: metric('packets_sent_total'),
    failed: metric('connections_total', { status: 'failed' }),
  };
  const sums = Object.fromEntries(Object.entries(row ?? {}).map(([name, value]) => [name, Number(value)]));
  const durations = metric('connection_duration_seconds_count');
  return [
    same('metrics equal the sums of SQL', sums, shown),
    same('every closed connection has its duration', shown.closed, durations),
    some('connections were closed', shown.closed),
    same('no connection is open in the metrics', 0, shown.open),
    same('no connection is open or presumed closed in SQL', [], await unfinished()),
  ];
}

/** Of stopped nodes: what they accepted, in any life, is in the log once each, and Postgres is where their spools are. */
export async function checkSpools(chaos: ChaosCluster): Promise<Check[]> {
  const { cluster } = chaos;
  const directories = [
    ...cluster.nodes.map(({ id }) => [id, join(cluster.directory, 'nodes', id, 'state')] as const),
    ...chaos.fleets.flatMap(({ nodes, stateDirectory }) => nodes.map((id) => [id, join(stateDirectory, id)] as const)),
  ];
  const spools = directories.map(([node, directory]) => readSpool(node, directory));
  const committed = async () => {
    const rows = await cluster.sql<{ node: string; epoch: string; applied: string }>(
      `SELECT node, epoch, applied_seq AS applied FROM node_epochs WHERE node <> 'control'`,
    );
    return new Map(rows.map(({ node, epoch, applied }) => [`${node}/${epoch}`, Number(applied)]));
  };
  const isBehind =
    (applied: ReadonlyMap<string, number>) =>
    ({ node, epoch, lastSeq }: SpoolOnDisk) =>
      (applied.get(`${node}/${epoch}`) ?? 0) < lastSeq;
  const isCommitted = async () => !spools.some(isBehind(await committed()));
  // What is missing then is in the check.
  await waitFor(isCommitted, { timeoutMs: PROJECTED_TIMEOUT_MS, what: 'the last events of the nodes' }).catch(
    () => undefined,
  );
  const applied = await committed();
  const logged = new Map<string, { events: number; seqs: number; last: number }>();
  for (const row of await cluster.sql<{ key: string; events: number; seqs: number; last: number }>(
    `SELECT node || '/' || epoch AS key, count(*)::int AS events, count(DISTINCT seq)::int AS seqs, max(seq)::int AS last
     FROM events WHERE node <> 'control' GROUP BY node, epoch`,
  ))
    logged.set(row.key, { events: row.events, seqs: row.seqs, last: row.last });
  const accepted = chaos.fleets.flatMap((fleet) => fleet.accepted().entries());
  return [
    same(
      'every event that a node accepted is committed exactly once',
      Object.fromEntries(
        spools.map(({ node, epoch, lastSeq }) => [node, { epoch, events: lastSeq, seqs: lastSeq, last: lastSeq }]),
      ),
      Object.fromEntries(spools.map(({ node, epoch }) => [node, { epoch, ...logged.get(`${node}/${epoch}`) }])),
    ),
    same(
      'nothing that was acknowledged to a caller is missing',
      [],
      accepted.filter(({ node, epoch, lastSeq }) => lastSeq > (logged.get(`${node}/${epoch}`)?.last ?? 0)),
    ),
    same(
      'the watermarks equal the spools',
      Object.fromEntries(spools.map(({ node, lastSeq }) => [node, lastSeq])),
      Object.fromEntries(spools.map(({ node, epoch }) => [node, applied.get(`${node}/${epoch}`) ?? 0])),
    ),
    same('no node has lost its spool', spools.length, applied.size),
  ];
}

/** Of Postgres alone. */
export async function checkDatabase({ cluster }: ChaosCluster): Promise<Check[]> {
  const [log] = await cluster.sql<{ holes: string }>('SELECT max(position) - count(*) AS holes FROM events');
  return [
    same('the log has no holes', 0, Number(log?.holes)),
    ...(await checkOwnAddresses(cluster)),
    ...(await checkLedger(cluster)),
    ...(await checkNothingLost(cluster)),
  ];
}

/** A client with addresses of its own gets those or none. */
async function checkOwnAddresses(cluster: Pick<Cluster, 'sql'>): Promise<Check[]> {
  const expected = Object.entries(OWN_ADDRESSES).map(([client, addresses]) => ({ client, addresses }));
  const actual = await cluster.sql(
    `SELECT client_id AS client, array_agg(DISTINCT host(address) ORDER BY host(address)) AS addresses
     FROM address_assignments WHERE client_id = any($1) GROUP BY client_id ORDER BY client_id`,
    [Object.keys(OWN_ADDRESSES)],
  );
  return [same('clients with addresses of their own had those and no others', expected, actual)];
}

function readSpool(node: string, directory: string): SpoolOnDisk {
  const db = new DatabaseSync(join(directory, 'node.sqlite'), { readOnly: true });
  try {
    const row = db.prepare('SELECT epoch, last_seq FROM epoch').get();
    return { node, epoch: String(row?.epoch), lastSeq: Number(row?.last_seq) };
  } finally {
    db.close();
  }
}
