import { type RawBuilder, sql } from 'kysely';
import { canonicalAddress } from '../../shared/ip/address.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, unnestOf } from '../storage/insert-rows.ts';
import type { Row } from '../storage/tables.ts';
import type { Assignment } from './assignment-state.ts';

type AssignmentRow = Row<'address_assignments'> & { readonly from: Date; readonly until: Date | null };

const WANTED: Readonly<Record<string, Column<readonly [string, number]>>> = {
  address: { type: 'inet', value: ([address]) => address },
  since: { type: 'timestamptz', value: ([, since]) => since },
};

/** Of each address the assignments that end behind a time, milliseconds since 1970, or have not ended. */
export async function loadEndingBehind(
  trx: DatabaseTransaction,
  wanted: ReadonlyArray<readonly [address: string, since: number]>,
): Promise<Assignment[]> {
  if (wanted.length === 0) return [];
  // One look into address_assignments_end for each: a join reads everything that is held.
  const { rows } = await sql<AssignmentRow>`
    SELECT a.*, lower(a.during) AS "from", upper(a.during) AS until
    FROM ${unnestOf(WANTED, wanted)} AS w (address, since)
    CROSS JOIN LATERAL (
      SELECT * FROM address_assignments o
      WHERE o.address = w.address::inet AND coalesce(upper(o.during), 'infinity') > w.since OFFSET 0
    ) a`.execute(trx);
  return rows.map(fromRow);
}

/** Assignments that have not ended. */
export async function loadOpen(trx: DatabaseTransaction, condition: RawBuilder<boolean>): Promise<Assignment[]> {
  const { rows } = await sql<AssignmentRow>`
    SELECT *, lower(during) AS "from", NULL AS until FROM address_assignments
    WHERE upper_inf(during) AND ${condition}`.execute(trx);
  return rows.map(fromRow);
}

function fromRow(row: AssignmentRow): Assignment {
  return {
    address: canonicalAddress(row.address),
    pool: row.pool,
    block: row.block,
    clientId: row.client_id,
    node: row.node,
    connectionId: row.connection_id,
    from: row.from.getTime(),
    until: row.until?.getTime() ?? null,
    endReason: row.end_reason,
    assignedPosition: row.assigned_position,
    endedPosition: row.ended_position,
  };
}
