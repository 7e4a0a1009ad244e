import { sql } from 'kysely';
import type { VpnEvent } from '../../shared/events/envelope.ts';
import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { type Column, insertRows } from '../storage/insert-rows.ts';
import { overlap } from '../storage/overlap.ts';
import type { AddressMemory } from './address-memory.ts';
import {
  loadBehindLease,
  loadEndingBehind,
  loadOfConnections,
  loadOpen,
  writeBegins,
  writeEnds,
} from './assignment-rows.ts';
import { type Assignment, decideAssignment, endAssignment, isEndToCome } from './assignment-state.ts';
import type { BlockGrantsProjection } from './block-grants.ts';
import type { ConnectionOutcome } from './connection-state.ts';
import { writeHeld } from './held-addresses.ts';
import type { IpLedgerProjection } from './ip-ledger.ts';
import type { NodesProjection } from './nodes.ts';
import { MAX_CLOCK_SKEW_MS } from './time-range.ts';

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
  /** Of these addresses all assignments that end behind a time, milliseconds since 1970, are there. */
  private readonly complete = new Map<string, number>();
  private readonly created = new Set<Assignment>();
  private readonly changed = new Set<Assignment>();
  private readonly conflicts: Conflict[] = [];
  private readonly grants: BlockGrantsProjection;
  private readonly ledger: IpLedgerProjection;
  private readonly memory: AddressMemory;

  private constructor(grants: BlockGrantsProjection, ledger: IpLedgerProjection, memory: AddressMemory) {
    this.grants = grants;
    this.ledger = ledger;
    this.memory = memory;
  }

  static async load(
    trx: DatabaseTransaction,
    entries: readonly LogEntry[],
    nodes: NodesProjection,
    grants: BlockGrantsProjection,
    ledger: IpLedgerProjection,
    memory: AddressMemory,
  ): Promise<AddressAssignmentsProjection> {
    const projection = new AddressAssignmentsProjection(grants, ledger, memory);
    const restarted = new Set<string>();
    const endedBlocks: Array<{ node: string; block: string }> = [];
    const assigned: Array<{ connectionId: string; block: string }> = [];
    for (const { event } of entries) {
      if (event.type === 'address.assigned' || event.type === 'address.released') {
        const { address } = event.data;
        const since = Date.parse(event.at) - MAX_CLOCK_SKEW_MS;
        projection.complete.set(address, Math.min(projection.complete.get(address) ?? since, since));
      }
      if (event.type === 'address.assigned') assigned.push(event.data);
      if (event.type === 'block.returned' || event.type === 'block.reclaimed') endedBlocks.push(event.data);
      const known = nodes.get(event.node);
      if (known !== undefined && known.incarnation !== event.incarnation) restarted.add(event.node);
    }
    const missing: Array<readonly [string, number]> = [];
    for (const [address, since] of projection.complete) {
      const remembered = memory.find(address, since);
      if (remembered === undefined) missing.push([address, since]);
      else {
        projection.complete.set(address, remembered.since);
        projection.assignments.set(address, [...remembered.assignments]);
      }
    }
    projection.add(await loadEndingBehind(trx, missing));
    for (const { event } of entries) {
      if (event.type !== 'block.reclaimed') continue;
      const { node, block, leaseEnd } = event.data;
      projection.add(await loadBehindLease(trx, { node, block, leaseEnd: Date.parse(leaseEnd) }));
    }
    if (restarted.size > 0) {
      const ofThem = sql<boolean>`c.node = any(${[...restarted]}::text[]) AND c.state <> 'closed'`;
      projection.add(await loadOfConnections(trx, ofThem));
    }
    if (endedBlocks.length > 0) {
      const nodesOf = endedBlocks.map(({ node }) => node);
      const blocksOf = endedBlocks.map(({ block }) => block);
      const isIn = sql<boolean>`node = any(${nodesOf}::text[]) AND block = any(${blocksOf}::cidr[])`;
      const held = await loadOpen(trx, isIn);
      projection.add(held);
      // Who loses an address with its block loses the ones in other blocks too.
      const losers = [...held, ...assigned.filter(({ block }) => blocksOf.includes(block))];
      const ids = [...new Set(losers.map(({ connectionId }) => connectionId))];
      if (ids.length > 0)
        projection.add(await loadOfConnections(trx, sql<boolean>`c.connection_id = any(${ids}::uuid[])`));
    }
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
      if (!abandoned || connection.status.state !== 'closed') continue;
      const { closedAt, reason } = connection.status;
      for (const row of this.where(({ connectionId }) => connectionId === connection.connectionId)) {
        const isReclaimed = event.type === 'block.reclaimed' && row.block === event.data.block;
        const isBehind = row.until === null || row.until > closedAt || isEndToCome(row);
        if (isBehind && !isReclaimed) this.end(entry, row, closedAt, reason);
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
        // Who lost an address with another block before had this one until the end of that one's lease at most.
        const isBehind = ({ until, endReason }: Assignment) =>
          until === null || (reclaimed && until > at && endReason === 'node_lost');
        for (const row of this.where((row) => row.node === node && row.block === block && isBehind(row))) {
          this.end(entry, row, at, reclaimed ? 'reclaimed' : 'returned');
        }
        break;
      }
      default:
    }
  }

  async write(trx: DatabaseTransaction): Promise<void> {
    const changed = [...this.changed];
    const created = [...this.created];
    await overlap([
      // First, since what begins may follow on what ends.
      () => writeEnds(trx, changed),
      () => writeBegins(trx, created),
      () => insertRows(trx, 'address_conflicts', CONFLICT_COLUMNS, this.conflicts),
      () => writeHeld(trx, [...changed, ...created]),
    ]);
  }

  /** Once all is written. */
  remember(): void {
    for (const [address, assignments] of this.assignments) {
      const since = this.complete.get(address);
      if (since === undefined) this.memory.forgetAddress(address);
      else this.memory.remember(address, since, assignments);
    }
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
        this.created.add(assignment);
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
    const stored = this.created.delete(before) ? this.created : this.changed;
    stored.delete(before);
    stored.add(after);
  }

  private where(matches: (row: Assignment) => boolean): Assignment[] {
    return [...this.assignments.values()].flat().filter(matches);
  }

  private add(stored: readonly Assignment[]): void {
    for (const assignment of stored) {
      const list = this.list(assignment.address);
      if (!list.some(({ assignedPosition }) => assignedPosition === assignment.assignedPosition)) list.push(assignment);
    }
  }

  private list(address: string): Assignment[] {
    const known = this.assignments.get(address);
    if (known) return known;
    const made: Assignment[] = [];
    this.assignments.set(address, made);
    return made;
  }
}

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
