import { sql } from 'kysely';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows, overwrite } from '../storage/insert-rows.ts';
import type { Assignment } from './assignment-state.ts';

const COLUMNS: Readonly<Record<string, Column<Assignment>>> = {
  pool: { type: 'cidr', value: (row) => row.pool },
  address: { type: 'inet', value: (row) => row.address },
  block: { type: 'cidr', value: (row) => row.block },
  client_id: { type: 'text', value: (row) => row.clientId },
  node: { type: 'text', value: (row) => row.node },
  connection_id: { type: 'uuid', value: (row) => row.connectionId },
  since: { type: 'timestamptz', value: (row) => row.from },
  released_at: { type: 'timestamptz', value: (row) => row.until },
};

/**
 * Brings the newest hold on each address of a pool up to date with assignments that began or ended; a released one stays, because the address
 * rests for a while. An assignment that arrives late never takes the place of a newer one.
 */
export async function writeHeld(trx: DatabaseTransaction, assignments: readonly Assignment[]): Promise<void> {
  const newest = new Map<string, Assignment>();
  for (const assignment of assignments) {
    // A network can have gone from one pool to another.
    const key = `${assignment.pool} ${assignment.address}`;
    const known = newest.get(key);
    if (known === undefined || known.from < assignment.from) newest.set(key, assignment);
  }
  await insertRows(
    trx,
    'held',
    COLUMNS,
    [...newest.values()],
    sql`${overwrite(['pool', 'address'], COLUMNS)}
      WHERE held.since < excluded.since OR (held.since = excluded.since AND held.connection_id = excluded.connection_id)`,
  );
}
