import { sql } from 'kysely';
import { canonicalAddress } from '../../shared/ip/address.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows, overwrite, timestamp } from '../storage/insert-rows.ts';
import type { Assignment } from './assignment-state.ts';

/** The newest hold on an address. Times are milliseconds since 1970. */
export type Held = Pick<
  Assignment,
  'pool' | 'address' | 'block' | 'clientId' | 'node' | 'connectionId' | 'from' | 'until'
>;

const COLUMNS: Readonly<Record<string, Column<Held>>> = {
  pool: { type: 'cidr', value: (row) => row.pool },
  address: { type: 'inet', value: (row) => row.address },
  block: { type: 'cidr', value: (row) => row.block },
  client_id: { type: 'text', value: (row) => row.clientId },
  node: { type: 'text', value: (row) => row.node },
  connection_id: { type: 'uuid', value: (row) => row.connectionId },
  since: { type: 'timestamptz', value: (row) => timestamp(row.from) },
  released_at: { type: 'timestamptz', value: (row) => timestamp(row.until) },
};

/** The newest hold on each address; a released one stays, because the address rests for a while. */
export class HeldAddresses {
  private readonly rows = new Map<string, Held>();
  private readonly dirty = new Set<string>();

  static async load(trx: DatabaseTransaction, addresses: ReadonlySet<string>): Promise<HeldAddresses> {
    const held = new HeldAddresses();
    if (addresses.size === 0) return held;
    const rows = await trx
      .selectFrom('held')
      .selectAll()
      .where('address', '=', sql<string>`any(${[...addresses]}::inet[])`)
      .execute();
    for (const row of rows) {
      const address = canonicalAddress(row.address);
      held.rows.set(address, {
        pool: row.pool,
        address,
        block: row.block,
        clientId: row.client_id,
        node: row.node,
        connectionId: row.connection_id,
        from: row.since.getTime(),
        until: row.released_at?.getTime() ?? null,
      });
    }
    return held;
  }

  /** An assignment that arrives late never takes the place of a newer one. */
  hold(assignment: Assignment): void {
    const known = this.rows.get(assignment.address);
    if (known === undefined || known.from < assignment.from) this.set(assignment);
  }

  release({ address, connectionId, from, until }: Assignment): void {
    const known = this.rows.get(address);
    if (known?.connectionId === connectionId && known.from === from) this.set({ ...known, until });
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    const rows = [...this.dirty].map((address) => this.rows.get(address)!);
    await insertRows(trx, 'held', COLUMNS, rows, overwrite(['pool', 'address'], COLUMNS));
  }

  private set(row: Held): void {
    this.rows.set(row.address, row);
    this.dirty.add(row.address);
  }
}
