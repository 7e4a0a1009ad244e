import { sql } from 'kysely';
import { parseAddress } from '../../shared/ip/address.ts';
import { formatPrefix, hostPrefix, parsePrefix } from '../../shared/ip/prefix.ts';
import { newBlock } from '../blocks/block-aggregate.ts';
import { loadBlocks, loadBlocksAround } from '../blocks/block-store.ts';
import type { Claims, ClientPool } from '../clients/check-static-addresses.ts';
import type { ClientAggregate } from '../clients/client-aggregate.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import type { StaticAddress } from './decide-static-request.ts';

type Owner = NonNullable<StaticAddress['owner']>;

/** Static addresses with all that their next decision depends on. `addresses` are canonical. */
export async function loadStaticAddresses(
  trx: DatabaseTransaction,
  addresses: readonly string[],
): Promise<Map<string, StaticAddress>> {
  const blockOf = new Map(addresses.map((address) => [address, staticBlock(address)]));
  const owners = await sql<{ address: string; client_id: string; pool: string; pool_state: Owner['poolState'] }>`
    SELECT host(address) AS address, client_id, pool::text, coalesce(
      (SELECT CASE WHEN p.state = 'active' THEN 'active' WHEN p.close_tunnels THEN 'closing' ELSE 'draining' END
       FROM pool_states p JOIN client_credentials c ON c.pool = p.name
       WHERE c.client_id = s.client_id AND p.state <> 'retired' AND s.address <<= ANY(p.prefixes)), 'closing') AS pool_state
    FROM static_addresses s WHERE address = ANY(${addresses}::inet[])`.execute(trx);
  const blocks = await loadBlocks(trx, [...blockOf.values()]);
  const clients = await sql<{ address: string; client_id: string | null }>`
    SELECT host(block) AS address, client_id FROM block_states
    WHERE block = ANY(${[...blockOf.values()]}::cidr[])`.execute(trx);
  const ownerOf = new Map(
    owners.rows.map(({ address, client_id: clientId, pool, pool_state: poolState }): [string, Owner] => [
      address,
      { clientId, pool, poolState },
    ]),
  );
  const grantedTo = new Map(clients.rows.map(({ address, client_id }) => [address, client_id]));
  return new Map(
    [...blockOf].map(([address, name]): [string, StaticAddress] => {
      const owner = ownerOf.get(address);
      const block = blocks.get(name) ?? newBlock(name, owner?.pool ?? name);
      return [address, { address, owner, block, grantedTo: grantedTo.get(address) ?? null, around: [] }];
    }),
  );
}

/** The same of one address, with the larger blocks that it lies in. */
export async function loadStaticAddress(trx: DatabaseTransaction, address: string): Promise<StaticAddress> {
  const known = await loadStaticAddresses(trx, [address]);
  const around = await loadBlocksAround(trx, [address]);
  return { ...known.get(address)!, around: [...around.values()] };
}

/** Notes for whom a block was granted, once its grant is saved. */
export async function saveGrantedTo(trx: DatabaseTransaction, address: string, clientId: string): Promise<void> {
  await sql`UPDATE block_states SET client_id = ${clientId} WHERE block = ${staticBlock(address)}::cidr`.execute(trx);
}

/** Moves the ends of leases; never to an earlier time, e.g. when the length of leases is another one now. */
export async function extendLeases(
  trx: DatabaseTransaction,
  addresses: readonly string[],
  leaseEnd: number,
): Promise<void> {
  if (addresses.length === 0) return;
  await sql`
    UPDATE block_states SET lease_end = greatest(lease_end, ${new Date(leaseEnd).toISOString()}::timestamptz)
    WHERE block = ANY(${addresses.map(staticBlock)}::cidr[])`.execute(trx);
}

/** The block of one static address. */
export function staticBlock(address: string): string {
  return formatPrefix(hostPrefix(parseAddress(address)));
}

/** What others have of addresses that a client is to get. */
export async function loadClaims(trx: DatabaseTransaction, addresses: readonly string[]): Promise<Claims> {
  const { rows } = await sql<{ address: string; client_id: string }>`
    SELECT host(address) AS address, client_id FROM static_addresses
    WHERE address = ANY(${addresses}::inet[])`.execute(trx);
  const around = await loadBlocksAround(trx, addresses);
  return {
    owners: new Map(rows.map(({ address, client_id }) => [address, client_id])),
    held: [...around.values()].flatMap(({ block, state }) =>
      state.status === 'granted' ? [{ block: parsePrefix(block), node: state.node }] : [],
    ),
  };
}

/** Stores which addresses are a client's own from now on. Those that it keeps stay as they are. */
export async function saveStaticAddresses(
  trx: DatabaseTransaction,
  { clientId, addresses }: Pick<ClientAggregate, 'clientId' | 'addresses'>,
  pool: ClientPool,
  at: string,
): Promise<void> {
  await sql`
    DELETE FROM static_addresses WHERE client_id = ${clientId} AND address <> ALL(${addresses}::inet[])`.execute(trx);
  if (addresses.length === 0) return;
  await sql`
    INSERT INTO static_addresses (address, client_id, pool, since)
    SELECT a.address, ${clientId}, p.prefix, ${at}::timestamptz
    FROM unnest(${addresses}::inet[]) AS a (address)
    JOIN unnest(${pool.prefixes.map(formatPrefix)}::cidr[]) AS p (prefix) ON a.address <<= p.prefix
    ON CONFLICT (address) DO NOTHING`.execute(trx);
}
