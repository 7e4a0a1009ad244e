import type { LogEntry } from '../log/log-entry.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { overlap } from '../storage/overlap.ts';
import { AddressAssignmentsProjection } from './address-assignments.ts';
import { AdminEventsProjection } from './admin-events.ts';
import { BlockGrantsProjection } from './block-grants.ts';
import { ClientHistogramsProjection } from './client-histograms.ts';
import { ClientTotalsProjection } from './client-totals.ts';
import { ClientsProjection } from './clients.ts';
import { ConnectionFailuresProjection } from './connection-failures.ts';
import { ConnectionsProjection } from './connections.ts';
import { EventCountersProjection } from './event-counters.ts';
import { IpLedgerProjection } from './ip-ledger.ts';
import { NodesProjection } from './nodes.ts';
import { ProjectionMemory } from './projection-memory.ts';
import { TrafficProjection } from './traffic.ts';

/**
 * Projects entries of the log, in their order, into all tables: loads the rows they touch, evolves them in memory, and
 * writes each table once. Each entry must come exactly once, under the projection lock. What follows from traffic is not
 * complete before `foldTraffic`. Who projects often passes the same `memory` each time. `alongside` is written first of all, and
 * `meanwhile` is done while Postgres still writes.
 */
export async function projectEntries(
  trx: DatabaseTransaction,
  entries: readonly LogEntry[],
  memory = new ProjectionMemory(),
  {
    alongside,
    meanwhile,
  }: { alongside?: Iterable<() => Promise<unknown>>; meanwhile?: (() => Promise<void>) | undefined } = {},
): Promise<void> {
  const first = entries[0]?.position;
  const last = entries.at(-1)?.position;
  if (first === undefined || last === undefined) return;
  await memory.catchUp(trx, first - 1);
  const ledger = new IpLedgerProjection();
  const failures = new ConnectionFailuresProjection();
  const traffic = new TrafficProjection(memory.traffic);
  const counters = new EventCountersProjection();
  const totals = new ClientTotalsProjection();
  const histograms = new ClientHistogramsProjection();
  const admin = new AdminEventsProjection();
  const clients = await ClientsProjection.load(trx, entries);
  const nodes = await NodesProjection.load(trx, entries);
  const grants = await BlockGrantsProjection.load(trx, entries);
  const addresses = await AddressAssignmentsProjection.load(trx, entries, nodes, grants, ledger, memory.addresses);
  const connections = await ConnectionsProjection.load(trx, entries, nodes, addresses.holders(), memory.connections);

  const end = last;
  function* write(): Generator<() => Promise<unknown>> {
    if (alongside) yield* alongside;
    for (const entry of entries) {
      const { event } = entry;
      clients.apply(entry);
      admin.apply(entry);
      failures.apply(entry);
      grants.apply(entry);
      ledger.apply(entry);
      const outcomes = connections.apply(entry, nodes.apply(entry));
      if (event.type === 'block.reclaimed') {
        const { node, block, leaseEnd } = event.data;
        const holders = new Set(addresses.connectionsIn(node, block));
        outcomes.push(...connections.abandon(holders, Date.parse(leaseEnd), `the lease of ${block} ended`));
      }
      addresses.apply(entry, outcomes);
      traffic.apply(entry, outcomes);
      counters.apply(entry, outcomes);
      totals.apply(entry, outcomes);
      histograms.apply(outcomes);
    }
    // Addresses take Postgres longest, and traffic us: each is worked on while the other is.
    const projections = [nodes, clients, admin, connections, failures, grants, addresses, traffic, ledger];
    for (const projection of [...projections, counters, totals, histograms]) yield () => projection.write(trx);
    memory.connections.remember(connections.all());
    addresses.remember();
    memory.moveTo(end);
    if (meanwhile) yield meanwhile;
  }
  await overlap(write());
}
