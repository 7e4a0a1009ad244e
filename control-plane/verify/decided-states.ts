import { type RawBuilder, sql } from 'kysely';
import { isHostBlock } from '../blocks/block-store.ts';
import type { Contradiction } from './contradictions.ts';

/** Of one table: what it says, and what projections say that it has to, in the same columns. */
interface DecidedState {
  readonly name: string;
  readonly key: string;
  readonly live: RawBuilder<unknown>;
  readonly expected: RawBuilder<unknown>;
}

/**
 * What the next decisions are made from, against the events of those before. Those tables are written beside the log; but the ledger and
 * the administrators' changes, which are kept for ever, have every event that they follow from.
 */
export function decidedStates(): Contradiction[] {
  return STATES.map(({ name, key, live, expected }) => ({
    name,
    rows: sql`
      SELECT json_build_object(${sql.lit(key)}, coalesce(s.key, e.key)) AS key,
        format('it is %s, the events make it %s', coalesce(s.row::text, 'not there'), coalesce(e.row::text, 'none')) AS detail
      FROM (SELECT ${sql.ref(key)} AS key, to_jsonb(l) AS row FROM (${live}) l) s
      FULL JOIN (SELECT ${sql.ref(key)} AS key, to_jsonb(x) AS row FROM (${expected}) x) e USING (key)
      WHERE s.row IS DISTINCT FROM e.row`,
  }));
}

/** In SQL: whether a change says what a pool is. */
const isLayout = sql.raw(`type IN ('pool.added', 'pool.changed')`);

/** In SQL: what a change, a row of `admin_events`, lists under a name. */
const arrayOf = (change: string, name: string, type: 'cidr' | 'inet'): RawBuilder<unknown> => sql`
  ARRAY(SELECT element::${sql.raw(type)} FROM jsonb_array_elements_text(${sql.ref(change)}.change->${sql.lit(name)})
    WITH ORDINALITY AS list (element, place) ORDER BY place)`;

const STATES: readonly DecidedState[] = [
  {
    name: 'states of blocks against the ledger',
    key: 'block',
    live: sql`SELECT block, pool, version, node, lease_end, previous_node, freed_at FROM block_states`,
    expected: sql`
      SELECT block, l.pool, l.version, CASE WHEN held THEN l.node END AS node,
        -- The lease of one static address goes on without an event.
        CASE WHEN held THEN CASE WHEN ${isHostBlock} THEN greatest(l.lease_end, s.lease_end) ELSE l.lease_end END END AS lease_end,
        CASE WHEN NOT held THEN l.node END AS previous_node, CASE WHEN NOT held THEN l.at END AS freed_at
      FROM (
        SELECT DISTINCT ON (block) block, pool, node, lease_end, at, entry IN ('granted', 'renewed') AS held,
          count(*) OVER (PARTITION BY block) AS version
        FROM ip_ledger WHERE address IS NULL ORDER BY block, position DESC
      ) l LEFT JOIN block_states s USING (block)`,
  },
  {
    name: 'states of pools against the changes',
    key: 'name',
    live: sql`
      SELECT name, version, state, prefixes, block_prefix_v4, block_prefix_v6, close_tunnels, state_since FROM pool_states`,
    expected: sql`
      SELECT p.name, p.version, CASE newest.type WHEN 'pool.retiring' THEN 'retiring' WHEN 'pool.retired' THEN 'retired'
          ELSE 'active' END AS state,
        ${arrayOf('layout', 'prefixes', 'cidr')} AS prefixes, (layout.change->'blockPrefixV4')::smallint AS block_prefix_v4,
        (layout.change->'blockPrefixV6')::smallint AS block_prefix_v6,
        coalesce((newest.change->'closeTunnels')::boolean, false) AS close_tunnels,
        CASE newest.type WHEN 'pool.retiring' THEN (
            SELECT at FROM admin_events r WHERE subject_kind = 'pool' AND subject_id = p.name AND r.position > layout.position
            ORDER BY position LIMIT 1
          ) ELSE newest.at END AS state_since
      FROM (
        SELECT subject_id AS name, count(*) AS version, max(position) AS newest,
          max(position) FILTER (WHERE ${isLayout}) AS layout
        FROM admin_events WHERE subject_kind = 'pool' GROUP BY subject_id
      ) p
      JOIN admin_events newest ON newest.position = p.newest
      JOIN admin_events layout ON layout.position = p.layout`,
  },
  {
    name: 'credentials against the clients',
    key: 'client_id',
    live: sql`SELECT client_id, version, state, pool, updated_at FROM client_credentials`,
    expected: sql`
      SELECT client_id, version, state, pool, updated_at
      FROM clients LEFT JOIN (
        SELECT subject_id AS client_id, count(*) AS version FROM admin_events WHERE subject_kind = 'client' GROUP BY subject_id
      ) changes USING (client_id)`,
  },
  {
    name: 'static addresses against the clients',
    key: 'address',
    live: sql`SELECT address, client_id, pool, since FROM static_addresses`,
    expected: sql`
      SELECT address, client_id, network AS pool, given.at AS since
      FROM clients c CROSS JOIN unnest(addresses) AS a (address)
      LEFT JOIN LATERAL (
        -- The first of those that left it with the client without a break.
        SELECT position, at FROM admin_events e
        WHERE subject_kind = 'client' AND subject_id = c.client_id AND type = 'client.addresses_set' AND position > (
          SELECT coalesce(max(position), 0) FROM admin_events t
          WHERE subject_kind = 'client' AND subject_id = c.client_id AND (type = 'client.revoked'
            OR (type = 'client.addresses_set' AND a.address <> ALL(${arrayOf('t', 'addresses', 'inet')}))))
        ORDER BY position LIMIT 1
      ) given ON true
      LEFT JOIN LATERAL (
        -- Its network at that time, in the pool that the client had then.
        SELECT network FROM unnest((
          SELECT ${arrayOf('layout', 'prefixes', 'cidr')} FROM admin_events layout
          WHERE subject_kind = 'pool' AND ${isLayout} AND position < given.position AND subject_id = (
            SELECT change->>'pool' FROM admin_events u
            WHERE subject_kind = 'client' AND subject_id = c.client_id AND position < given.position AND change ? 'pool'
            ORDER BY position DESC LIMIT 1)
          ORDER BY position DESC LIMIT 1
        )) AS networks (network) WHERE a.address <<= network
      ) networks ON true`,
  },
];
