import { type Check, same } from '../../deploy/local/checks.ts';
import type { Cluster } from '../../deploy/local/cluster.ts';
import type { AcceptedEvents } from '../support/simulated-node/accepted-events.ts';

/** Of a cluster under chaos what there is to count. */
export interface StockSource {
  readonly cluster: Pick<Cluster, 'sql'> & { readonly nodes: readonly { readonly id: string }[] };
  /** Simulated nodes. */
  readonly fleets: readonly { readonly nodes: readonly string[]; accepted(): Pick<AcceptedEvents, 'entries'> }[];
}

/** What Postgres has of one node, and what the node itself says that it accepted, where it does. */
export interface NodeStock {
  readonly events: number;
  readonly connections: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly accepted?: number;
}

/** By node, of all that there should be. */
export type Stock = ReadonlyMap<string, NodeStock>;

export async function takeStock({ cluster, fleets }: StockSource): Promise<Stock> {
  const accepted = new Map<string, number>(fleets.flatMap(({ nodes }) => nodes.map((id) => [id, 0])));
  for (const { node, lastSeq } of fleets.flatMap((fleet) => fleet.accepted().entries()))
    accepted.set(node, (accepted.get(node) ?? 0) + lastSeq);
  const rows = await cluster.sql<Record<string, string>>(
    `SELECT node, (SELECT count(*) FROM events e WHERE e.node = n.node) AS events,
       (SELECT count(*) FROM connections c WHERE c.node = n.node) AS connections,
       (SELECT coalesce(sum(bytes_in), 0) FROM connections c WHERE c.node = n.node) AS "bytesIn",
       (SELECT coalesce(sum(bytes_out), 0) FROM connections c WHERE c.node = n.node) AS "bytesOut"
     FROM nodes n`,
  );
  const found = new Map(rows.map((row) => [row.node, row]));
  return new Map(
    [...cluster.nodes.map(({ id }) => id), ...accepted.keys()].map((node) => {
      const row = found.get(node);
      const amounts = {
        events: Number(row?.events ?? 0),
        connections: Number(row?.connections ?? 0),
        bytesIn: Number(row?.bytesIn ?? 0),
        bytesOut: Number(row?.bytesOut ?? 0),
      };
      const own = accepted.get(node);
      return [node, own === undefined ? amounts : { ...amounts, accepted: own }] as const;
    }),
  );
}

/** What has come since an earlier stock. */
export function growthOf(before: Stock, after: Stock): Stock {
  return new Map(
    [...after].map(([node, now]) => {
      const then: Partial<Record<string, number>> = { ...before.get(node) };
      const grown = Object.entries(now).map(([name, amount]) => [name, amount - (then[name] ?? 0)] as const);
      return [node, Object.fromEntries(grown) as unknown as NodeStock];
    }),
  );
}

/** Checks that find nothing wrong have found nothing where nothing has happened. */
export function checkGrowth(growth: Stock): Check[] {
  const idle = [...growth].flatMap(([node, stock]) =>
    Object.entries(stock).flatMap(([name, amount]) => (amount > 0 ? [] : [`${node}: no ${name}`])),
  );
  return [same('every node had connections that moved something, and its events', [], idle)];
}

/** Of one thing that has to be there. */
export function some(name: string, count: number): Check {
  return { name, ok: count > 0, expected: 'at least 1', actual: count };
}
