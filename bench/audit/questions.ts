import { dayOf, SPREAD, SPREAD_FROM } from './spread.ts';

/** A question of an auditor in SQL, and what it is asked about. */
export interface Question {
  readonly name: string;
  readonly sql: string;
  readonly keys: readonly (readonly string[])[];
}

/** Of each question, so that no answer depends on one lucky key. */
export const KEYS = 8;

/** What only the data itself can name. */
export interface Samples {
  /** An address, and a moment when somebody had it. */
  readonly holders: readonly { readonly address: string; readonly at: string }[];
  /** Addresses that were claimed twice. */
  readonly claimed: readonly string[];
  readonly spools: readonly { readonly node: string; readonly epoch: string }[];
}

/** Every view and function for auditors, each about one client, address, moment, day, node or spool. */
export function questions({ holders, claimed, spools }: Samples): Question[] {
  const spread = <T>(make: (part: number, index: number) => T): T[] =>
    Array.from({ length: KEYS }, (_, index) => make((index + 0.5) / KEYS, index));
  const moment = (part: number) =>
    new Date(Date.parse(SPREAD_FROM) + part * SPREAD.days * 86_400_000 + 47_123_000).toISOString();
  const day = (part: number) => dayOf(Math.floor(part * SPREAD.days));
  const dayAfter = (part: number) => dayOf(Math.floor(part * SPREAD.days) + 1);
  // The first is the busiest.
  const client = (_: number, index: number) => `client-${Math.floor(SPREAD.clients * (index / KEYS) ** 2)}`;
  const address = (part: number) => `10.64.${Math.floor(part * 256)}.${Math.floor(part * 200)}`;
  const remote = (_: number, index: number) => `198.51.${index}.${index}`;
  const node = (part: number) => `node-${Math.floor(part * SPREAD.nodes)}`;
  return [
    {
      name: 'address_holders: an address at a moment',
      sql: 'SELECT * FROM address_holders($1, $2)',
      keys: holders.map(({ address, at }) => [address, at]),
    },
    {
      name: 'address_history: an address',
      sql: 'SELECT * FROM address_history WHERE address = $1 ORDER BY held_from',
      keys: spread((part) => [address(part)]),
    },
    {
      name: 'address_history: a client',
      sql: 'SELECT * FROM address_history WHERE client_id = $1 ORDER BY held_from',
      keys: spread((part, index) => [client(part, index)]),
    },
    {
      name: 'conflicting_claims: an address',
      sql: 'SELECT * FROM conflicting_claims WHERE address = $1 ORDER BY at',
      keys: claimed.map((one) => [one]),
    },
    {
      name: 'leaked_addresses: an address',
      sql: 'SELECT * FROM leaked_addresses WHERE address = $1 ORDER BY held_from',
      keys: spread((part) => [address(part)]),
    },
    {
      name: 'leaked_addresses: all that are held',
      sql: 'SELECT * FROM leaked_addresses WHERE held',
      keys: spread(() => []),
    },
    {
      name: 'orphaned_addresses: all',
      sql: 'SELECT * FROM orphaned_addresses',
      keys: spread(() => []),
    },
    {
      name: 'connection_history: all sessions of a client',
      sql: 'SELECT * FROM connection_history WHERE client_id = $1 ORDER BY established_at DESC NULLS LAST',
      keys: spread((part, index) => [client(part, index)]),
    },
    {
      name: 'connection_history: a client on a day',
      sql: 'SELECT * FROM connection_history WHERE client_id = $1 AND established_at >= $2 AND established_at < $3',
      keys: spread((part, index) => [client(part, index), day(part), dayAfter(part)]),
    },
    {
      name: 'connection_history: totals of a day',
      sql: 'SELECT count(*), sum(bytes_sent), sum(bytes_received) FROM connection_history WHERE established_at >= $1 AND established_at < $2',
      keys: spread((part) => [day(part), dayAfter(part)]),
    },
    {
      name: 'sessions_at: all sessions of a moment',
      sql: 'SELECT * FROM sessions_at($1)',
      keys: spread((part) => [moment(part)]),
    },
    {
      name: 'session_counts_at: a moment',
      sql: 'SELECT * FROM session_counts_at($1)',
      keys: spread((part) => [moment(part)]),
    },
    {
      name: 'usage_daily: a client on all days',
      sql: 'SELECT * FROM usage_daily WHERE client_id = $1 ORDER BY day',
      keys: spread((part, index) => [client(part, index)]),
    },
    {
      name: 'usage_daily: a day by node',
      sql: 'SELECT node, sum(bytes_sent), sum(bytes_received), sum(connections) FROM usage_daily WHERE day = $1 GROUP BY node',
      keys: spread((part) => [day(part)]),
    },
    {
      name: 'usage_daily: a node on a day, most first',
      sql: 'SELECT * FROM usage_daily WHERE node = $1 AND day = $2 ORDER BY bytes_sent DESC',
      keys: spread((part) => [node(part), day(1 - part)]),
    },
    {
      name: 'failed_authentications: a remote address on a day',
      sql: 'SELECT * FROM failed_authentications WHERE remote_address = $1 AND at >= $2 AND at < $3',
      keys: spread((part, index) => [remote(part, index), day(part), dayAfter(part)]),
    },
    {
      name: 'failed_authentications_by_address: a day',
      sql: 'SELECT * FROM failed_authentications_by_address($1, $2)',
      keys: spread((part) => [day(part), dayAfter(part)]),
    },
    {
      name: 'admin_changes: of a client',
      sql: "SELECT * FROM admin_changes WHERE subject_kind = 'client' AND subject_id = $1 ORDER BY position",
      keys: spread((part, index) => [client(part, index)]),
    },
    {
      name: 'admin_changes: of a day',
      sql: 'SELECT * FROM admin_changes WHERE at >= $1 AND at < $2 ORDER BY at',
      keys: spread((part) => [day(part), dayAfter(part)]),
    },
    {
      name: 'completeness: all spools',
      sql: 'SELECT * FROM completeness',
      keys: spread(() => []),
    },
    {
      name: 'completeness: a node',
      sql: 'SELECT * FROM completeness WHERE node = $1',
      keys: spread((part) => [node(part)]),
    },
    {
      name: 'epoch_proof: a spool, from the log',
      sql: 'SELECT * FROM epoch_proof($1, $2)',
      keys: spools.map(({ node, epoch }) => [node, epoch]),
    },
  ];
}
