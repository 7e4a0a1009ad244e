import { type RawBuilder, sql } from 'kysely';
import { type AddressFamily, parseAddress } from '../../shared/ip/address.ts';
import { ADDRESS_REST_MS } from '../../shared/ip/block.ts';
import { canonicalPrefix, formatPrefix, hostPrefix, type IpPrefix } from '../../shared/ip/prefix.ts';
import { DecisionConflictError } from '../leader/decide-in-transaction.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type BlockAggregate, evolve, RECLAIM_GRACE_MS, STATIC_RECLAIM_GRACE_MS } from './block-aggregate.ts';
import type { BlockChange } from './decide-request.ts';

interface BlockRow {
  readonly block: string;
  readonly pool: string;
  readonly version: number;
  readonly node: string | null;
  readonly lease_end_ms: number | null;
  readonly previous_node: string | null;
  readonly freed_at_ms: number | null;
}

const columns = sql.raw(`block::text, pool::text, version, node, previous_node,
  floor(extract(epoch FROM lease_end) * 1000)::bigint AS lease_end_ms,
  floor(extract(epoch FROM freed_at) * 1000)::bigint AS freed_at_ms`);

/** In SQL: whether a block is that of one static address. */
export const isHostBlock = sql.raw('masklen(block) = CASE family(block) WHEN 4 THEN 32 ELSE 128 END');

/**
 * What no block may be granted over: the static addresses of a family, and those that were taken back from another client and
 * rest.
 */
export async function loadReserved(trx: DatabaseTransaction, family: AddressFamily, now: number): Promise<IpPrefix[]> {
  const { rows } = await sql<{ address: string }>`
    SELECT host(address) AS address FROM static_addresses WHERE family(address) = ${family}
    UNION
    SELECT host(block) FROM block_states WHERE family(block) = ${family} AND ${isHostBlock}
      AND (node IS NOT NULL OR freed_at > ${isoTime(now - ADDRESS_REST_MS)})`.execute(trx);
  return rows.map(({ address }) => hostPrefix(parseAddress(address)));
}

/** Every block that was ever granted and shares addresses with one of the prefixes. */
export function loadBlocksIn(
  trx: DatabaseTransaction,
  prefixes: readonly IpPrefix[],
): Promise<Map<string, BlockAggregate>> {
  return load(trx, sql`WHERE block && ANY(${prefixes.map(formatPrefix)}::cidr[])`);
}

export function loadBlocks(trx: DatabaseTransaction, blocks: readonly string[]): Promise<Map<string, BlockAggregate>> {
  return load(trx, sql`WHERE block = ANY(${blocks}::cidr[])`);
}

/** Blocks that one of the addresses lies in, but for those of that address alone. */
export function loadBlocksAround(
  trx: DatabaseTransaction,
  addresses: readonly string[],
): Promise<Map<string, BlockAggregate>> {
  return load(trx, sql`WHERE block >> ANY(${addresses}::inet[])`);
}

/** Granted blocks whose lease ended long enough ago to be taken back. */
export function loadReclaimable(
  trx: DatabaseTransaction,
  now: number,
  limit: number,
): Promise<Map<string, BlockAggregate>> {
  return load(
    trx,
    sql`WHERE node IS NOT NULL AND lease_end <= ${isoTime(now)}::timestamptz - interval '1 millisecond' *
      CASE WHEN ${isHostBlock} THEN ${STATIC_RECLAIM_GRACE_MS}::integer ELSE ${RECLAIM_GRACE_MS}::integer END
      ORDER BY lease_end LIMIT ${limit}`,
  );
}

async function load(trx: DatabaseTransaction, where: RawBuilder<unknown>): Promise<Map<string, BlockAggregate>> {
  const { rows } = await sql<BlockRow>`SELECT ${columns} FROM block_states ${where}`.execute(trx);
  return new Map(rows.map(fromRow).map((aggregate) => [aggregate.block, aggregate]));
}

function fromRow(row: BlockRow): BlockAggregate {
  return {
    block: canonicalPrefix(row.block),
    pool: canonicalPrefix(row.pool),
    version: row.version,
    state:
      row.node === null
        ? { status: 'free', previousNode: row.previous_node, freedAt: row.freed_at_ms }
        : { status: 'granted', node: row.node, leaseEnd: row.lease_end_ms ?? 0 },
  };
}

/**
 * Stores the states after the changes, each only on top of the version that it was decided on. Throws
 * DecisionConflictError when
 * another decider was faster; the transaction then has to start over.
 */
export async function saveChanges(trx: DatabaseTransaction, changes: readonly BlockChange[]): Promise<void> {
  if (changes.length === 0) return;
  // In one order everywhere, so that two deciders wait for each other instead of deadlocking.
  const after = changes.map(({ before, event }) => evolve(before, event)).sort((a, b) => (a.block < b.block ? -1 : 1));
  const leaseEnd = ({ state }: BlockAggregate) => (state.status === 'granted' ? isoTime(state.leaseEnd) : null);
  const freedAt = ({ state }: BlockAggregate) => (state.status === 'free' ? isoTime(state.freedAt) : null);
  const { rows } = await sql<{ block: string }>`
    INSERT INTO block_states AS s (block, pool, version, node, lease_end, previous_node, freed_at)
    SELECT * FROM unnest(
      ${after.map(({ block }) => block)}::cidr[],
      ${after.map(({ pool }) => pool)}::cidr[],
      ${after.map(({ version }) => version)}::bigint[],
      ${after.map(({ state }) => (state.status === 'granted' ? state.node : null))}::text[],
      ${after.map(leaseEnd)}::timestamptz[],
      ${after.map(({ state }) => (state.status === 'free' ? state.previousNode : null))}::text[],
      ${after.map(freedAt)}::timestamptz[])
    ON CONFLICT (block) DO UPDATE SET pool = excluded.pool, version = excluded.version, node = excluded.node,
      lease_end = excluded.lease_end, previous_node = excluded.previous_node, freed_at = excluded.freed_at
    WHERE s.version = excluded.version - 1
    RETURNING block::text`.execute(trx);
  if (rows.length !== after.length) throw new DecisionConflictError('a block');
}

export async function findGrant(trx: DatabaseTransaction, requestId: string): Promise<string | undefined> {
  const { rows } = await sql<{ block: string }>`
    SELECT block::text FROM block_requests WHERE request_id = ${requestId}`.execute(trx);
  return rows[0] && canonicalPrefix(rows[0].block);
}

export async function rememberGrant(
  trx: DatabaseTransaction,
  request: { readonly requestId: string; readonly node: string },
  block: string,
): Promise<void> {
  await sql`
    INSERT INTO block_requests (request_id, node, block) VALUES (${request.requestId}, ${request.node}, ${block}::cidr)
    ON CONFLICT (request_id) DO UPDATE SET node = excluded.node, block = excluded.block, granted_at = now()`.execute(
    trx,
  );
}

/** Forgets answered requests older than `hours`. */
export async function forgetGrants(trx: DatabaseTransaction, hours: number): Promise<void> {
  await sql`DELETE FROM block_requests WHERE granted_at < now() - ${hours} * interval '1 hour'`.execute(trx);
}

function isoTime(milliseconds: number | null): string | null {
  return milliseconds === null ? null : new Date(milliseconds).toISOString();
}
