import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { isDeepStrictEqual } from 'node:util';
import { type Check, checkLedger, checkNothingLost, same } from '../../deploy/local/checks.ts';
import type { Cluster } from '../../deploy/local/cluster.ts';
import { scrape } from '../../deploy/local/http-client.ts';
import { type Sample, sumOf } from '../../deploy/local/prometheus-text.ts';
import { waitFor } from '../../deploy/local/wait-for.ts';
import type { ChaosCluster } from './chaos-cluster.ts';
import { OWN_ADDRESSES } from './chaos-parts.ts';
import { compareSeries, readSeries, type Series } from './series-in-sql.ts';
import { some } from './stock.ts';

const PROJECTED_TIMEOUT_MS = 30_000;
/** Longer than an address rests. */
const REST_TIMEOUT_MS = 70_000;
const CONNECTIONS_SHOWN = 10;
const SERIES_SHOWN = 20;

/** What a node's state on disk says of its spool. */
interface SpoolOnDisk {
  readonly node: string;
  readonly epoch: string;
  readonly lastSeq: number;
  /** Up to where the node knows it to be committed. */
  readonly appliedSeq: number;
  /** Events. */
  readonly kept: number;
}

/** The last sequence in Postgres, by node and epoch. */
type Committed = ReadonlyMap<string, number>;

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
  let samples: Sample[] = [];
  let inSql: Series = new Map();
  // Addresses come to the end of their rest meanwhile.
  const hasHeldStill = async () => {
    inSql = await readSeries(chaos.cluster);
    samples = await scrape(`${leader.url}/metrics`);
    return isDeepStrictEqual(inSql, await readSeries(chaos.cluster));
  };
  await waitFor(hasHeldStill, { timeoutMs: REST_TIMEOUT_MS, what: 'a scrape while nothing changes' });
  const closed = sumOf(samples, 'masque_vpn_connections_total', { status: 'closed' });
  return [
    same('all metrics equal the rows in SQL', [], compareSeries(inSql, samples).slice(0, SERIES_SHOWN)),
    same(
      'every closed connection has its duration',
      closed,
      sumOf(samples, 'masque_vpn_connection_duration_seconds_count'),
    ),
    some('connections were closed', closed),
    some('latencies were observed', sumOf(samples, 'masque_vpn_latency_ms_count')),
    same('no connection is open in the metrics', 0, sumOf(samples, 'masque_vpn_active_connections_total')),
    same('no connection is open or presumed closed in SQL', [], await unfinished()),
  ];
}

/** Of a quiet cluster, while its nodes run: they know all of their events to be committed. */
export async function checkDepths({ cluster, fleets }: ChaosCluster): Promise<Check[]> {
  const read = async () => {
    const scrapes = await Promise.all(cluster.nodes.map(({ metricsUrl }) => scrape(metricsUrl)));
    const shown = scrapes.map((samples) => samples.find(({ name }) => name === 'masque_vpn_node_spool_depth')?.value);
    return [...shown, ...fleets.map((fleet) => fleet.status()?.depth)].map((depth) => depth ?? 'unknown');
  };
  const areEmpty = async () => (await read()).every((depth) => depth === 0);
  await waitFor(areEmpty, { timeoutMs: PROJECTED_TIMEOUT_MS, what: 'empty spools' }).catch(() => undefined);
  const depths = await read();
  const none = depths.map(() => 0);
  return [same('by their own account all spools are empty', none, depths)];
}

/**
 * Of stopped nodes: what they accepted, in any life, is in the log once each, and Postgres is where their spools are. `known` was committed
 * before their spools were empty by their own account.
 */
export async function checkSpools(chaos: ChaosCluster, known: Committed): Promise<Check[]> {
  const { cluster } = chaos;
  const spools = spoolDirectories(chaos).map(([node, directory]) => readSpool(node, directory));
  const isBehind =
    (applied: Committed) =>
    ({ node, epoch, lastSeq }: SpoolOnDisk) =>
      (applied.get(`${node}/${epoch}`) ?? 0) < lastSeq;
  const isCommitted = async () => !spools.some(isBehind(await readApplied(chaos)));
  // What is missing then is in the check.
  await waitFor(isCommitted, { timeoutMs: PROJECTED_TIMEOUT_MS, what: 'the last events of the nodes' }).catch(
    () => undefined,
  );
  const applied = await readApplied(chaos);
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
    same(
      'what a node was told is what was committed, and it keeps the rest',
      [],
      spools.filter((spool) => !wasTold(spool, known, applied)),
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

function spoolDirectories({ cluster, fleets }: ChaosCluster): (readonly [node: string, directory: string])[] {
  return [
    ...cluster.nodes.map(({ id }) => [id, join(cluster.directory, 'nodes', id, 'state')] as const),
    ...fleets.flatMap(({ nodes, stateDirectory }) => nodes.map((id) => [id, join(stateDirectory, id)] as const)),
  ];
}

/** A node need not hear of what it says at its end. */
function wasTold(
  { node, epoch, lastSeq, appliedSeq, kept }: SpoolOnDisk,
  known: Committed,
  applied: Committed,
): boolean {
  const key = `${node}/${epoch}`;
  const [least = Number.POSITIVE_INFINITY, most = 0] = [known.get(key), applied.get(key)];
  return appliedSeq >= least && appliedSeq <= most && kept === lastSeq - appliedSeq;
}

export async function readApplied({ cluster }: ChaosCluster): Promise<Committed> {
  const rows = await cluster.sql<{ node: string; epoch: string; applied: string }>(
    `SELECT node, epoch, applied_seq AS applied FROM node_epochs WHERE node <> 'control'`,
  );
  return new Map(rows.map(({ node, epoch, applied }) => [`${node}/${epoch}`, Number(applied)]));
}

function readSpool(node: string, directory: string): SpoolOnDisk {
  const db = new DatabaseSync(join(directory, 'node.sqlite'), { readOnly: true });
  try {
    const row = db
      .prepare('SELECT epoch, last_seq, applied_seq, (SELECT count(*) FROM spool) AS kept FROM epoch')
      .get();
    return {
      node,
      epoch: String(row?.epoch),
      lastSeq: Number(row?.last_seq),
      appliedSeq: Number(row?.applied_seq),
      kept: Number(row?.kept),
    };
  } finally {
    db.close();
  }
}
