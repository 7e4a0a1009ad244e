import assert from 'node:assert/strict';
import { sql } from 'kysely';
import { BlockService } from '../../../control-plane/blocks/block-service.ts';
import { BLOCK_REST_MS } from '../../../control-plane/blocks/choose-block.ts';
import { freeSpace, sizeOf } from '../../../control-plane/blocks/free-space.ts';
import type { PoolLayout } from '../../../control-plane/pools/pool-aggregate.ts';
import { PoolService } from '../../../control-plane/pools/pool-service.ts';
import { readPoolUsage } from '../../../control-plane/pools/pool-usage.ts';
import type { Database } from '../../../control-plane/storage/database.ts';
import { nodeEventSubject } from '../../../shared/events/subjects.ts';
import { type IpAddress, parseAddress } from '../../../shared/ip/address.ts';
import { ADDRESS_REST_MS, DEFAULT_POOL } from '../../../shared/ip/block.ts';
import { formatPrefix, type IpPrefix, parsePrefix, prefixContains } from '../../../shared/ip/prefix.ts';
import { blockReplyMessage, blockRequestMessage } from '../../../shared/nats/messages.ts';
import { randomId } from '../../unit/projections/sample-events.ts';
import type { TestLog } from '../projector/test-log.ts';
import { checkAddresses, countPool } from './count-addresses.ts';
import { LedgerNode } from './ledger-node.ts';

const LEASE_SECONDS = 600;
const RECLAIM_GRACE_MS = 120_000;
/** Wall clocks of nodes, against that of Postgres. */
const SKEWS_MS = [0, 20_000, -20_000];
/** A node whose clock is ahead begins and ends its assignments later; each takes a millisecond at least, also those of one moment. */
const MOMENT_MS = 100;
const SKEW = `${Math.max(...SKEWS_MS) + MOMENT_MS} milliseconds`;
export const NODES = SKEWS_MS.length;
export const POOLS = [DEFAULT_POOL, 'office'] as const;
type Pool = (typeof POOLS)[number];

/**
 * Three nodes, two deciders on one Postgres, and the projected log, in a time of their own. Every world has networks of its own, so that
 * many can share a database.
 */
export class LedgerWorld {
  now = Date.parse('2026-03-02T12:00:00.000Z');
  readonly nodes: readonly LedgerNode[];
  readonly layouts: Readonly<Record<Pool, PoolLayout>>;
  private readonly log: TestLog;
  private readonly deciders: readonly BlockService[];
  private readonly pools: PoolService;
  private readonly networks: readonly IpPrefix[];
  /** Of this world alone. */
  private readonly office: string;
  private asked = 0;
  /** By address: who had it last, and until when. */
  private readonly released = new Map<string, { readonly clientId: string; readonly at: number }>();

  private constructor(log: TestLog, others: Database, number: number) {
    this.log = log;
    const context = { incarnation: randomId(), clock: async () => this.now };
    this.deciders = [log.database, others].map(
      (database) => new BlockService({ ...context, database, leaseSeconds: LEASE_SECONDS }),
    );
    this.pools = new PoolService({ ...context, database: log.database });
    this.office = `office-${number}`;
    const [second, third] = [2 * Math.floor(number / 256), number % 256];
    const v6 = number.toString(16);
    this.layouts = {
      // Four whole blocks of each family: pools that run low are what is of interest.
      [DEFAULT_POOL]: {
        prefixes: [`10.${second + 1}.${third}.0/25`, `fd00:1:${v6}::/122`].map(parsePrefix),
        blockLength: { 4: 27, 6: 124 },
      },
      office: { prefixes: [`10.${second + 2}.${third}.0/26`].map(parsePrefix), blockLength: { 4: 28, 6: 124 } },
    };
    this.networks = POOLS.flatMap((pool) => this.layouts[pool].prefixes);
    this.nodes = SKEWS_MS.map(
      (skewMs, n) =>
        new LedgerNode({
          id: `w${number}-node-${n}`,
          shards: n === 0 ? 2 : 1,
          skewMs,
          now: () => this.now,
          ask: (request) => this.answer(request),
          onReleased: (clientId, addresses) => {
            for (const address of addresses) this.released.set(address, { clientId, at: this.now });
          },
        }),
    );
  }

  /** With its pools, and all nodes running. `others` is another way to the database of the log. */
  static async open(log: TestLog, others: Database, number: number): Promise<LedgerWorld> {
    const world = new LedgerWorld(log, others, number);
    const { ownerEpoch } = log;
    // Later than those before, whose default pool rests.
    world.now += number * 24 * 3_600_000;
    await world.pools.configureDefault({ ownerEpoch }, world.layouts[DEFAULT_POOL]);
    await world.pools.add({ ownerEpoch }, world.office, world.layouts.office, 'test');
    await Promise.all(world.nodes.map((node) => node.start()));
    return world;
  }

  node(n: number): LedgerNode {
    const node = this.nodes[n % NODES];
    assert.ok(node !== undefined);
    return node;
  }

  async connect(n: number, clientId: string, pool: Pool, shard: number): Promise<void> {
    const node = this.node(n);
    if (!node.isRunning) return;
    const tunnel = await node.connect(clientId, this.nameOf(pool), shard);
    for (const address of tunnel?.addresses ?? []) {
      const last = this.released.get(address);
      const rested = last === undefined || last.clientId === clientId || this.now - last.at >= ADDRESS_REST_MS;
      assert.ok(rested, `${address} has not rested`);
    }
    checkAddresses(node, this.now);
  }

  async crowd(n: number, clients: number): Promise<void> {
    for (let i = 0; i < clients; i++) await this.connect(n, `crowd-${n}-${i}`, DEFAULT_POOL, i % 2);
  }

  /** Time passes, and every node that runs looks at its leases. */
  async pass(ms: number): Promise<void> {
    this.now += ms;
    await this.lookEverywhere();
  }

  /** All nodes at once, so that both deciders decide at once. */
  async lookEverywhere(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.look()));
  }

  async reclaim(decider: number): Promise<void> {
    await this.deciders[decider % this.deciders.length]?.reclaimExpired({ ownerEpoch: this.log.ownerEpoch });
  }

  /** Events of a node go to the log, where it is connected; it may not hear that they arrived, and sends them again then. */
  async deliver(n: number, limit: number, hears: boolean): Promise<void> {
    const node = this.node(n);
    const data = node.link === 'cut' ? undefined : node.events(limit);
    if (data === undefined) return;
    const { epochs } = await this.log.deliverRaw({ subject: nodeEventSubject(node.id), data });
    if (!hears) return;
    for (const { epoch, appliedSeq } of epochs) await node.applied(epoch, appliedSeq);
  }

  async retireOffice(closeTunnels: boolean): Promise<void> {
    const { ownerEpoch } = this.log;
    await this.pools.retire({ ownerEpoch }, this.office, closeTunnels, 'test');
    for (const node of this.nodes) {
      const [network] = this.layouts.office.prefixes;
      const blocks = (await this.grantedTo(node.id)).filter((block) =>
        prefixContains(network!, parsePrefix(block).address),
      );
      node.notify({ draining: closeTunnels ? [] : blocks, closing: closeTunnels ? blocks : [] });
    }
    await this.lookEverywhere();
    await this.pools.finishRetiring({ ownerEpoch });
  }

  /** Throws where an invariant does not hold. */
  async check(): Promise<void> {
    await this.checkNodes();
    // Nodes go on asking for blocks meanwhile.
    const snapshot = this.log.database.transaction().setIsolationLevel('repeatable read');
    await snapshot.execute((trx) => this.checkBlocks(trx));
    await this.checkLog();
  }

  /** All is well again and comes to its end: then nothing is granted or assigned any more, and the pool is retired. */
  async finish(): Promise<void> {
    for (const node of this.nodes) node.link = 'up';
    for (const node of this.nodes) await node.start();
    await this.retireOffice(true);
    for (const node of this.nodes) await node.stop();
    for (const node of this.nodes) await node.start();
    for (const [n, node] of this.nodes.entries()) while (node.events(1) !== undefined) await this.deliver(n, 50, true);
    for (const node of this.nodes) node.crash(true);
    await this.check();
    this.now += LEASE_SECONDS * 1_000 + RECLAIM_GRACE_MS;
    await this.reclaim(0);
    await this.check();
    await this.pools.finishRetiring({ ownerEpoch: this.log.ownerEpoch });
    const networks = this.networks.map(formatPrefix);
    const { rows } = await sql<{ what: string }>`
      SELECT 'grant of ' || block AS what FROM block_grants
        WHERE end_reason IS NULL AND block <<= ANY(${networks}::cidr[])
      UNION ALL SELECT 'assignment of ' || address FROM address_assignments
        WHERE upper_inf(during) AND address <<= ANY(${networks}::cidr[])
      UNION ALL SELECT 'connection ' || c.connection_id || ' is ' || c.state FROM connections c
        WHERE c.state <> 'closed' AND c.node = ANY(${this.nodes.map(({ id }) => id)}::text[])
      UNION ALL SELECT 'assignment of ' || a.address || ' ' || a.during || ' outlives its connection, ' || c.closed_at
        FROM address_assignments a JOIN connections c USING (connection_id)
        WHERE a.address <<= ANY(${networks}::cidr[]) AND upper(a.during) > c.closed_at + ${SKEW}::interval
      UNION ALL SELECT 'pool ' || name || ' is ' || state FROM pool_states
        WHERE name = ${this.office} AND state <> 'retired'`.execute(this.log.database);
    assert.deepEqual(rows, [], 'everything ends');
  }

  close(): void {
    for (const node of this.nodes) node.crash(true);
    for (const node of this.nodes) node.remove();
  }

  private async answer(request: Uint8Array): Promise<Uint8Array> {
    const decider = this.deciders[this.asked++ % this.deciders.length];
    assert.ok(decider !== undefined);
    const reply = await decider.handle({ ownerEpoch: this.log.ownerEpoch }, blockRequestMessage.decode(request));
    return blockReplyMessage.encode(reply);
  }

  /** No address is held twice, none outside of a block that its node holds, and each is counted once. */
  private async checkNodes(): Promise<void> {
    const holders = new Map<string, string>();
    for (const node of this.nodes.filter(({ isRunning }) => isRunning)) {
      for (const { clientId, addresses } of node.open.values()) {
        for (const address of addresses) {
          assert.equal(holders.get(address), undefined, `${address} is held twice`);
          holders.set(address, `${node.id} ${clientId}`);
          assert.ok(node.mayServe(parseAddress(address)), `${node.id} has no lease for ${address}`);
        }
      }
      const granted = await this.grantedTo(node.id);
      for (const block of node.blocks) assert.ok(granted.includes(block), `${node.id} holds ${block} without a grant`);
      checkAddresses(node, this.now);
    }
  }

  /** Granted, resting and free are all that there is, by what is decided on and by the ledger. */
  private async checkBlocks(database: Database): Promise<void> {
    const networks = this.networks.map(formatPrefix);
    const { rows } = await sql<{ block: string; node: string | null; freed_ms: number | null }>`
      SELECT block::text, node, floor(extract(epoch FROM freed_at) * 1000)::bigint AS freed_ms FROM block_states
      WHERE block <<= ANY(${networks}::cidr[]) ORDER BY block_states.block`.execute(database);
    const ledger = await sql`
      SELECT DISTINCT ON (ip_ledger.block) block::text, CASE WHEN entry IN ('granted', 'renewed') THEN node END AS node,
        CASE WHEN entry IN ('returned', 'reclaimed') THEN floor(extract(epoch FROM at) * 1000)::bigint END AS freed_ms
      FROM ip_ledger WHERE address IS NULL AND block <<= ANY(${networks}::cidr[])
      ORDER BY ip_ledger.block, position DESC`.execute(database);
    assert.deepEqual(rows, ledger.rows, 'blocks are what the ledger says');
    const granted = rows.filter(({ node }) => node !== null).map(({ block }) => parsePrefix(block));
    const resting = rows
      .filter(({ freed_ms }) => freed_ms !== null && this.now < freed_ms + BLOCK_REST_MS)
      .map(({ block }) => parsePrefix(block));
    const free = freeSpace(this.networks, [...granted, ...resting]);
    const all = sizeOf(granted) + sizeOf(resting) + sizeOf(free);
    assert.equal(all, sizeOf(this.networks), 'granted and resting blocks overlap');
    await this.checkUsage(database, granted);
  }

  /** What operators see of the pools, against the holds on addresses that are on record. */
  private async checkUsage(database: Database, blocks: readonly IpPrefix[]): Promise<void> {
    const { rows: used } = await sql<{ address: string }>`
      SELECT DISTINCT host(address) AS address FROM address_assignments
      WHERE address <<= ANY(${this.networks.map(formatPrefix)}::cidr[])
        AND (upper_inf(during) OR upper(during) > ${new Date(this.now - ADDRESS_REST_MS)})`.execute(database);
    const usedAddresses = used.map(({ address }) => parseAddress(address));
    const usages = await readPoolUsage(database, new Date(this.now));
    for (const pool of POOLS) {
      for (const usage of usages.filter((one) => one.pool === this.nameOf(pool))) {
        const { total, granted, used, available, state, family } = usage;
        const counted = countPool(this.layouts[pool], family, blocks);
        const networks = this.layouts[pool].prefixes.filter(({ address }) => address.family === family);
        const isIn = (address: IpAddress) => networks.some((network) => prefixContains(network, address));
        const inUse = usedAddresses.filter(isIn).length;
        assert.deepEqual(
          { total, granted, used, available },
          { ...counted, used: inUse, available: state === 'active' ? counted.total - inUse : 0 },
          `usage of ${pool}, IPv${family}`,
        );
      }
    }
  }

  /** The log has no conflict, and what it says of addresses lies within what it says of blocks. */
  private async checkLog(): Promise<void> {
    const networks = this.networks.map(formatPrefix);
    const { rows } = await sql<{ what: string }>`
      SELECT 'conflict about ' || address AS what FROM address_conflicts WHERE address <<= ANY(${networks}::cidr[])
      UNION ALL SELECT 'dead letter: ' || error FROM dead_letter
      UNION ALL SELECT 'assignment outside of a grant: ' || a.address || ' ' || a.during FROM address_assignments a
        WHERE a.address <<= ANY(${networks}::cidr[]) AND NOT EXISTS (
          SELECT FROM block_grants g WHERE g.block = a.block AND g.node = a.node AND lower(a.during) >= lower(g.during)
            AND coalesce(upper(a.during), 'infinity') <= coalesce(upper(g.during), 'infinity') + ${SKEW}::interval)
      UNION ALL SELECT 'grant of ' || g.block || ' to ' || g.node || ' in the rest of ' || e.block || ' of ' || e.node
        FROM ip_ledger e JOIN ip_ledger g ON g.block && e.block AND g.position > e.position
          AND g.at < e.at + ${BLOCK_REST_MS} * interval '1 millisecond'
        WHERE e.block <<= ANY(${networks}::cidr[]) AND e.entry IN ('returned', 'reclaimed') AND g.entry = 'granted'
          AND (g.block, g.node) <> (e.block, e.node)
    `.execute(this.log.database);
    assert.deepEqual(rows, []);
  }

  private nameOf(pool: Pool): string {
    return pool === DEFAULT_POOL ? pool : this.office;
  }

  private async grantedTo(node: string): Promise<string[]> {
    const { rows } = await sql<{ block: string }>`
      SELECT block::text FROM block_states WHERE node = ${node}`.execute(this.log.database);
    return rows.map(({ block }) => formatPrefix(parsePrefix(block)));
  }
}
