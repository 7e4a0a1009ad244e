import { sql } from 'kysely';
import { formatPrefix, parsePrefix } from '../../shared/ip/prefix.ts';
import { DecisionConflictError } from '../leader/decide-in-transaction.ts';
import type { Database, DatabaseTransaction } from '../storage/database.ts';
import { newPool, type PoolAggregate, type PoolLayout, type PoolState } from './pool-aggregate.ts';

interface PoolRow {
  readonly name: string;
  readonly version: number;
  readonly state: 'active' | 'retiring' | 'retired';
  readonly prefixes: string[];
  readonly block_prefix_v4: number;
  readonly block_prefix_v6: number;
  readonly close_tunnels: boolean;
  readonly since_ms: number;
}

/** Every pool that there is or was, by name. */
export async function loadPools(database: Database): Promise<PoolAggregate[]> {
  const { rows } = await sql<PoolRow>`
    SELECT name, version, state, prefixes::text[] AS prefixes, block_prefix_v4, block_prefix_v6, close_tunnels,
      floor(extract(epoch FROM state_since) * 1000)::bigint AS since_ms
    FROM pool_states ORDER BY name`.execute(database);
  return rows.map((row) => ({
    name: row.name,
    version: row.version,
    layout: {
      prefixes: row.prefixes.map(parsePrefix),
      blockLength: { 4: row.block_prefix_v4, 6: row.block_prefix_v6 },
    },
    state: stateOf(row),
  }));
}

export async function loadPool(database: Database, name: string): Promise<PoolAggregate | undefined> {
  return (await loadPools(database)).find((pool) => pool.name === name);
}

/** A pool as far as its clients' addresses are concerned: one that is not active has no networks for them. */
export async function loadActiveLayout(
  database: Database,
  name: string,
): Promise<PoolLayout & { readonly name: string }> {
  const pool = await loadPool(database, name);
  const { prefixes, blockLength } = (pool ?? newPool(name)).layout;
  return { name, blockLength, prefixes: pool?.state.status === 'active' ? prefixes : [] };
}

function stateOf({ state, since_ms: since, close_tunnels: closeTunnels }: PoolRow): PoolState {
  return state === 'active' ? { status: state } : { status: state, since, closeTunnels };
}

/** Stores the state after an event. Throws DecisionConflictError when it is not the next one of its pool. */
export async function savePool(trx: DatabaseTransaction, pool: PoolAggregate, at: string): Promise<void> {
  const { name, version, layout, state } = pool;
  const closeTunnels = state.status === 'retiring' && state.closeTunnels;
  const since = state.status === 'retiring' ? new Date(state.since).toISOString() : at;
  const { numAffectedRows } = await sql`
    INSERT INTO pool_states AS s
      (name, version, state, prefixes, block_prefix_v4, block_prefix_v6, close_tunnels, state_since)
    VALUES (${name}, ${version}, ${state.status}, ${layout.prefixes.map(formatPrefix)}::cidr[],
      ${layout.blockLength[4]}, ${layout.blockLength[6]}, ${closeTunnels}, ${since})
    ON CONFLICT (name) DO UPDATE SET version = excluded.version, state = excluded.state, prefixes = excluded.prefixes,
      block_prefix_v4 = excluded.block_prefix_v4, block_prefix_v6 = excluded.block_prefix_v6,
      close_tunnels = excluded.close_tunnels, state_since = excluded.state_since
    WHERE s.version = excluded.version - 1`.execute(trx);
  if (numAffectedRows !== 1n) throw new DecisionConflictError(`pool ${name}`);
}
