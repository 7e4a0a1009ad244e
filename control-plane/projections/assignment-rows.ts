import { type RawBuilder, sql } from 'kysely';
import { canonicalAddress } from '../../shared/ip/address.ts';
import { canonicalPrefix } from '../../shared/ip/prefix.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows, timestamp, unnestOf } from '../storage/insert-rows.ts';
import { send } from '../storage/send.ts';
import type { Row } from '../storage/tables.ts';
import type { Assignment } from './assignment-state.ts';

type AssignmentRow = Row<'address_assignments'> & { readonly from: Date; readonly until: Date | null };

const WANTED: Readonly<Record<string, Column<readonly [string, number]>>> = {
  address: { type: 'inet', value: ([address]) => address },
  since: { type: 'timestamptz', value: ([, since]) => since },
};

const COLUMNS: Readonly<Record<string, Column<Assignment>>> = {
  address: { type: 'inet', value: (row) => row.address },
  pool: { type: 'cidr', value: (row) => row.pool },
  block: { type: 'cidr', value: (row) => row.block },
  client_id: { type: 'text', value: (row) => row.clientId },
  node: { type: 'text', value: (row) => row.node },
  connection_id: { type: 'uuid', value: (row) => row.connectionId },
  during: { type: 'tstzrange', value: (row) => row },
  end_reason: { type: 'text', value: (row) => row.endReason },
  assigned_position: { type: 'bigint', value: (row) => row.assignedPosition },
  ended_position: { type: 'bigint', value: (row) => row.endedPosition },
};

/** What the end of an assignment changes. */
const END_COLUMNS: Readonly<Record<string, Column<Assignment>>> = {
  assigned_position: COLUMNS.assigned_position!,
  during: COLUMNS.during!,
  end_reason: COLUMNS.end_reason!,
  ended_position: COLUMNS.ended_position!,
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
    ) a ORDER BY a.assigned_position`.execute(trx);
  return rows.map(fromRow);
}

/** Assignments that have not ended. */
export async function loadOpen(trx: DatabaseTransaction, condition: RawBuilder<boolean>): Promise<Assignment[]> {
  const { rows } = await sql<AssignmentRow>`
    SELECT *, lower(during) AS "from", NULL AS until FROM address_assignments
    WHERE upper_inf(during) AND ${condition} ORDER BY assigned_position`.execute(trx);
  return rows.map(fromRow);
}

/** All assignments of connections that a condition names. */
export async function loadOfConnections(
  trx: DatabaseTransaction,
  condition: RawBuilder<boolean>,
): Promise<Assignment[]> {
  const { rows } = await sql<AssignmentRow>`
    SELECT a.*, lower(a.during) AS "from", upper(a.during) AS until
    FROM connections c JOIN address_assignments a USING (connection_id) WHERE ${condition}
    ORDER BY a.assigned_position`.execute(trx);
  return rows.map(fromRow);
}

/** What a node gave of a block that was taken from it, of which the lease ended at `leaseEnd`, milliseconds since 1970: what ends behind that. */
export async function loadBehindLease(
  trx: DatabaseTransaction,
  { node, block, leaseEnd }: { readonly node: string; readonly block: string; readonly leaseEnd: number },
): Promise<Assignment[]> {
  const { rows } = await sql<AssignmentRow>`
    SELECT *, lower(during) AS "from", upper(during) AS until FROM address_assignments
    WHERE address <<= ${block}::cidr AND coalesce(upper(during), 'infinity') > ${timestamp(leaseEnd)}::timestamptz
      AND node = ${node} AND block = ${block}::cidr
    ORDER BY assigned_position`.execute(trx);
  return rows.map(fromRow);
}

/** Writes assignments that are not stored. */
export async function writeBegins(trx: DatabaseTransaction, begun: readonly Assignment[]): Promise<void> {
  await insertRows(trx, 'address_assignments', COLUMNS, begun);
}

/** Writes the ends of assignments that are stored. */
export async function writeEnds(trx: DatabaseTransaction, ended: readonly Assignment[]): Promise<void> {
  if (ended.length === 0) return;
  const update = sql`
    UPDATE address_assignments a
    SET during = c.during, end_reason = c.end_reason, ended_position = c.ended_position
    FROM ${unnestOf(END_COLUMNS, ended)} AS c (assigned_position, during, end_reason, ended_position)
    WHERE a.assigned_position = c.assigned_position`;
  await send(trx, update);
}

function fromRow(row: AssignmentRow): Assignment {
  return {
    address: canonicalAddress(row.address),
    pool: canonicalPrefix(row.pool),
    block: canonicalPrefix(row.block),
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
