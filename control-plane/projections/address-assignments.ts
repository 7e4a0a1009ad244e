import { sql } from 'kysely';
import type { VpnEvent } from '../../shared/events/envelope.ts';
import { canonicalAddress } from '../../shared/ip/address.ts';
import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows, timestamp } from '../storage/insert-rows.ts';
import type { Row } from '../storage/tables.ts';
import { type Assignment, decideAssignment, endAssignment } from './assignment-state.ts';
import type { BlockGrantsProjection } from './block-grants.ts';
import type { ConnectionOutcome } from './connections.ts';
import { HeldAddresses } from './held-addresses.ts';
import type { IpLedgerProjection } from './ip-ledger.ts';
import type { NodesProjection } from './nodes.ts';
import { formatRange, MAX_CLOCK_SKEW_MS } from './time-range.ts';

interface Conflict {
  readonly entry: LogEntry<'address.assigned'>;
  readonly holder: Assignment;
}

/**
 * Projects who holds which address. Takes assignments, releases, the ends of blocks, and connections that ended without
 * a report of it. What would overlap goes to `address_conflicts`.
 */
export class AddressAssignmentsProjection {
  /** By address. */
  private readonly assignments = new Map<string, Assignment[]>();
  private readonly dirty = new Set<Assignment>();
  private readonly conflicts: Conflict[] = [];
  private readonly held: HeldAddresses;
  private readonly grants: BlockGrantsProjection;
  private readonly ledger: IpLedgerProjection;

  private constructor(held: HeldAddresses, grants: BlockGrantsProjection, ledger: IpLedgerProjection) {
    this.held = held;
    this.grants = grants;
    this.ledger = ledger;
  }

  static async load(
    trx: DatabaseTransaction,
    entries: readonly LogEntry[],
    nodes: NodesProjection,
    grants: BlockGrantsProjection,
    ledger: IpLedgerProjection,
  ): Promise<AddressAssignmentsProjection> {
    const addresses = new Set<string>();
    const restarted = new Set<string>();
    const endedBlocks: Array<{ node: string; block: string }> = [];
    let earliest = Number.POSITIVE_INFINITY;
    for (const { event } of entries) {
      if (event.type === 'address.assigned' || event.type === 'address.released') {
        addresses.add(event.data.address);
        earliest = Math.min(earliest, Date.parse(event.at));
      }
      if (event.type === 'block.returned' || event.type === 'block.reclaimed') endedBlocks.push(event.data);
      const known = nodes.get(event.node);
      if (known !== undefined && known.incarnation !== event.incarnation) restarted.add(event.node);
    }
    const selected = trx
      .selectFrom('address_assignments as a')
      .selectAll('a')
      .select([sql<Date>`lower(a.during)`.as('from'), sql<Date | null>`upper(a.during)`.as('until')]);
    const found = [];
    if (addresses.size > 0) {
      const since = timestamp(earliest - MAX_CLOCK_SKEW_MS);
      // One look into address_assignments_end for each: a join reads everything that is held.
      const { rows } = await sql<Row<'address_assignments'> & { from: Date; until: Date | null }>`
        SELECT a.*, lower(a.during) AS "from", upper(a.during) AS until FROM unnest(${[...addresses]}::inet[]) AS w (address)
        CROSS JOIN LATERAL (
          SELECT * FROM address_assignments o
          WHERE o.address = w.address AND coalesce(upper(o.during), 'infinity') > ${since} OFFSET 0
        ) a`.execute(trx);
      found.push(...rows);
    }
    const open = selected.where(sql<boolean>`upper_inf(a.during)`);
    if (restarted.size > 0) found.push(...(await open.where('a.node', 'in', [...restarted]).execute()));
    if (endedBlocks.length > 0) {
      const nodesOf = endedBlocks.map(({ node }) => node);
      const blocksOf = endedBlocks.map(({ block }) => block);
      found.push(...(await open.where('a.node', 'in', nodesOf).where('a.block', 'in', blocksOf).execute()));
    }
    const byId = new Map<number, Assignment>();
    for (const row of found) {
      byId.set(row.id, {
        id: row.id,
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
      });
    }
    const touched = new Set([...addresses, ...[...byId.values()].map(({ address }) => address)]);
    const projection = new AddressAssignmentsProjection(await HeldAddresses.load(trx, touched), grants, ledger);
    for (const assignment of byId.values()) projection.list(assignment.address).push(assignment);
    return projection;
  }

  /** The connections that hold an address of a block. */
  *connectionsIn(node: string, block: string): Generator<string> {
    for (const list of this.assignments.values()) {
      for (const row of list)
        if (row.node === node && row.block === block && row.until === null) yield row.connectionId;
    }
  }

  /** The connections that hold an address of those that were loaded. */
  holders(): string[] {
    const held = [...this.assignments.values()].flat().filter(({ until }) => until === null);
    return held.map(({ connectionId }) => connectionId);
  }

  apply(entry: LogEntry, outcomes: readonly ConnectionOutcome[]): void {
    const { event, position } = entry;
    for (const { connection, abandoned } of outcomes) {
      if (!abandoned || connection.status.state !== 'closed' || event.type === 'block.reclaimed') continue;
      const { closedAt, reason } = connection.status;
      for (const row of this.openWhere((other) => other.connectionId === connection.connectionId)) {
        this.end(entry, row, closedAt, reason);
      }
    }
    switch (event.type) {
      case 'address.assigned':
        this.assign(entry as LogEntry<'address.assigned'>, event);
        break;
      case 'address.released': {
        const { connectionId, address, reason } = event.data;
        const at = Date.parse(event.at);
        const held = this.list(address).findLast((row) => row.connectionId === connectionId);
        if (held) this.replace(held, endAssignment(held, at, reason, position));
        this.ledger.record(entry, 'released', at, { ...event.data, node: event.node }, reason);
        break;
      }
      case 'block.returned':
      case 'block.reclaimed': {
        const { node, block } = event.data;
        const reclaimed = event.type === 'block.reclaimed';
        const at = Date.parse(reclaimed ? event.data.leaseEnd : event.at);
        for (const row of this.openWhere((other) => other.node === node && other.block === block)) {
          this.end(entry, row, at, reclaimed ? 'reclaimed' : 'returned');
        }
        break;
      }
      default:
    }
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    const changed = [...this.dirty].filter(({ id }) => id !== null);
    if (changed.length > 0) {
      await sql`
        UPDATE address_assignments a
        SET during = c.during::tstzrange, end_reason = c.end_reason, ended_position = c.ended_position
        FROM unnest(
          ${changed.map(({ id }) => id)}::bigint[],
          ${changed.map(({ from, until }) => formatRange(from, until))}::text[],
          ${changed.map(({ endReason }) => endReason)}::text[],
          ${changed.map(({ endedPosition }) => endedPosition)}::bigint[]
        ) AS c (id, during, end_reason, ended_position)
        WHERE a.id = c.id`.execute(trx);
    }
    const created = [...this.dirty].filter(({ id }) => id === null);
    await insertRows(trx, 'address_assignments', ASSIGNMENT_COLUMNS, created);
    await insertRows(trx, 'address_conflicts', CONFLICT_COLUMNS, this.conflicts);
    await this.held.write(trx);
  }

  private assign(entry: LogEntry<'address.assigned'>, event: VpnEvent<'address.assigned'>): void {
    const { address, block } = event.data;
    const at = Date.parse(event.at);
    const others = this.list(address);
    const decision = decideAssignment(others, event, entry.position, this.grants.grantAt(event.node, block, at));
    switch (decision.type) {
      case 'assigned': {
        const { assignment } = decision;
        others.push(assignment);
        this.dirty.add(assignment);
        this.held.hold(assignment);
        this.ledger.record(entry, 'assigned', assignment.from, assignment, null);
        break;
      }
      case 'conflict': {
        this.conflicts.push({ entry, holder: decision.holder });
        this.ledger.record(entry, 'conflict', at, { ...event.data, node: event.node }, null);
        break;
      }
      case 'repeated':
        break;
      default:
        decision satisfies never;
    }
  }

  /** Ends an assignment of which no release was reported, which the ledger has to say then. */
  private end(cause: LogEntry, row: Assignment, at: number, reason: string): void {
    const ended = endAssignment(row, at, reason, cause.position);
    this.replace(row, ended);
    this.ledger.record(cause, 'released', ended.until ?? at, ended, reason);
  }

  private replace(before: Assignment, after: Assignment): void {
    if (after === before) return;
    const list = this.list(before.address);
    list[list.indexOf(before)] = after;
    this.dirty.delete(before);
    this.dirty.add(after);
    this.held.release(after);
  }

  private openWhere(matches: (row: Assignment) => boolean): Assignment[] {
    return [...this.assignments.values()].flat().filter((row) => row.until === null && matches(row));
  }

  private list(address: string): Assignment[] {
    const known = this.assignments.get(address);
    if (known) return known;
    const made: Assignment[] = [];
    this.assignments.set(address, made);
    return made;
  }
}

const ASSIGNMENT_COLUMNS: Readonly<Record<string, Column<Assignment>>> = {
  address: { type: 'inet', value: (row) => row.address },
  pool: { type: 'cidr', value: (row) => row.pool },
  block: { type: 'cidr', value: (row) => row.block },
  client_id: { type: 'text', value: (row) => row.clientId },
  node: { type: 'text', value: (row) => row.node },
  connection_id: { type: 'uuid', value: (row) => row.connectionId },
  during: { type: 'tstzrange', value: (row) => formatRange(row.from, row.until) },
  end_reason: { type: 'text', value: (row) => row.endReason },
  assigned_position: { type: 'bigint', value: (row) => row.assignedPosition },
  ended_position: { type: 'bigint', value: (row) => row.endedPosition },
};

const CONFLICT_COLUMNS: Readonly<Record<string, Column<Conflict>>> = {
  address: { type: 'inet', value: ({ entry }) => entry.event.data.address },
  position: { type: 'bigint', value: ({ entry }) => entry.position },
  at: { type: 'timestamptz', value: ({ entry }) => entry.event.at },
  node: { type: 'text', value: ({ entry }) => entry.event.node },
  client_id: { type: 'text', value: ({ entry }) => entry.event.data.clientId },
  connection_id: { type: 'uuid', value: ({ entry }) => entry.event.data.connectionId },
  holder_position: { type: 'bigint', value: ({ holder }) => holder.assignedPosition },
  holder_node: { type: 'text', value: ({ holder }) => holder.node },
  holder_client_id: { type: 'text', value: ({ holder }) => holder.clientId },
  holder_connection_id: { type: 'uuid', value: ({ holder }) => holder.connectionId },
};
