import { type RawBuilder, sql } from 'kysely';

/** What the tables are filled with: proportions of a cluster of some size that has run for a third of a year (ours). */
export const SPREAD = {
  days: 120,
  clients: 20_000,
  nodes: 50,
  /** Of the connections, one in so many lasts for days. */
  longOneIn: 200,
  failuresPerHundredConnections: 10,
  failingAddresses: 5_000,
  adminActors: 20,
  spoolsPerNode: 20,
  /** In the log itself, of each node's newest spool. */
  eventsPerNode: 10_000,
} as const;

/** The first day. */
export const SPREAD_FROM = '2026-01-01T00:00:00Z';

export function dayOf(index: number): string {
  return new Date(Date.parse(SPREAD_FROM) + index * 86_400_000).toISOString().slice(0, 10);
}

/** Functions of the fill: `r(i, seed)` is a number from 0 to below 1 that looks random and follows from both. */
export const spreadFunctions: RawBuilder<unknown> = sql`
  CREATE SCHEMA bench;
  CREATE FUNCTION bench.r(i bigint, seed bigint) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (hashint8extended(i, seed) & 2147483647)::double precision / 2147483648.0;
  CREATE FUNCTION bench.client(i bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 'client-' || i;
  CREATE FUNCTION bench.node(i bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 'node-' || i;
  CREATE FUNCTION bench.epoch(node bigint, spool bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN md5(node || '/' || spool)`;

/**
 * The connections that all tables agree on, in the order of their begin: more by day than by night; a few busy clients and
 * many quiet ones, each mostly on one node; from seconds to hours long, some for weeks. No address is held twice at a time:
 * each is given out again only after far more connections than begin during the longest.
 */
export function seedConnections(connections: number): RawBuilder<unknown> {
  const { days, clients, nodes, longOneIn } = SPREAD;
  const n = sql.lit(connections);
  const end = sql`${sql.lit(SPREAD_FROM)}::timestamptz + make_interval(secs => 86400 * ${sql.lit(days)})`;
  return sql`
    CREATE UNLOGGED TABLE bench.seed AS
    SELECT i, md5(i::text)::uuid AS connection_id, bench.client(client) AS client_id,
      bench.node(CASE WHEN bench.r(i, 4) < 0.8 THEN client % ${sql.lit(nodes)}
        ELSE floor(bench.r(i, 5) * ${sql.lit(nodes)})::bigint END) AS node,
      begin, least(begin + make_interval(secs => seconds), ${end}) AS seen,
      begin + make_interval(secs => seconds) > ${end} AS open, seconds,
      CASE WHEN i % ${sql.lit(longOneIn)} = 0 THEN '10.65.0.0'::inet + (i / ${sql.lit(longOneIn)}) % 16384
        ELSE '10.64.0.0'::inet + i % 65536 END AS address,
      1 + floor(bench.r(i, 6) * 200000)::bigint AS unit
    FROM (
      SELECT i, floor(${sql.lit(clients)} * bench.r(i, 1) ^ 1.3)::bigint AS client,
        ${sql.lit(SPREAD_FROM)}::timestamptz + make_interval(secs => 86400 * (day + part - 0.09 * sin(2 * pi() * part))) AS begin,
        round(CASE WHEN i % ${sql.lit(longOneIn)} = 0 THEN 86400 * (0.5 + 19 * bench.r(i, 2)) ELSE 20 * exp(7 * bench.r(i, 3)) END)
          AS seconds
      FROM (
        SELECT i, floor(i * ${sql.lit(days)}::double precision / ${n}) AS day,
          i * ${sql.lit(days)}::double precision / ${n} - floor(i * ${sql.lit(days)}::double precision / ${n}) AS part
        FROM generate_series(0::bigint, ${n} - 1) AS i) AS numbered) AS begun`;
}
