import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type BlockAggregate,
  decide,
  evolve,
  newBlock,
  STATIC_RECLAIM_GRACE_MS,
} from '../../../control-plane/blocks/block-aggregate.ts';
import type { BlockChange } from '../../../control-plane/blocks/decide-request.ts';
import {
  decideAcquire,
  decideRenew,
  decideReturn,
  type StaticAddress,
} from '../../../control-plane/static-addresses/decide-static-request.ts';
import { ADDRESS_REST_MS } from '../../../shared/ip/block.ts';

const ADDRESS = '10.99.200.7';
const BLOCK = '10.99.200.7/32';
const POOL = '10.99.0.0/16';
const LEASE_MS = 60_000;
const START = Date.parse('2026-01-01T00:00:00.000Z');
const NODES = ['node-a', 'node-b', 'node-c'] as const;
const CLIENTS = ['alice', 'bob'] as const;
type NodeName = (typeof NODES)[number];

/** The control plane's side of one address, as the service runs it: whoever leads decides from what is stored. */
class Ledger {
  now = START;
  owner: string | undefined = 'alice';
  block: BlockAggregate = newBlock(BLOCK, POOL);
  grantedTo: string | null = null;
  around: BlockAggregate[] = [];
  poolState: 'active' | 'draining' | 'closing' = 'active';

  get address(): StaticAddress {
    const { block, grantedTo, around } = this;
    const owner =
      this.owner === undefined ? undefined : { clientId: this.owner, pool: POOL, poolState: this.poolState };
    return { address: ADDRESS, owner, block, grantedTo, around };
  }

  acquire(node: string, clientId: string) {
    const request = { op: 'acquire', node, clientId, address: ADDRESS } as const;
    const decision = decideAcquire(this.address, request, { leaseMs: LEASE_MS, now: this.now });
    if (decision.type === 'granted') {
      this.apply(decision.changes);
      this.grantedTo = clientId;
    }
    return decision;
  }

  /** Whether the grant goes on. */
  renew(node: string, grant: number): boolean {
    const { leases } = decideRenew(new Map([[ADDRESS, this.address]]), node, [{ address: ADDRESS, grant }], {
      leaseMs: LEASE_MS,
      now: this.now,
    });
    const { state } = this.block;
    if (leases.length > 0 && state.status === 'granted') {
      const leaseEnd = Math.max(state.leaseEnd, this.now + LEASE_MS);
      this.block = { ...this.block, state: { ...state, leaseEnd } };
    }
    return leases.length > 0;
  }

  giveBack(node: string, grant: number): boolean {
    const known = new Map([[ADDRESS, this.address]]);
    const { changes } = decideReturn(known, node, [{ address: ADDRESS, grant }], this.now);
    this.apply(changes);
    return changes.length > 0;
  }

  reclaim(): void {
    const decision = decide(this.block, { type: 'reclaim', now: this.now });
    if (decision.ok) this.apply([{ before: this.block, event: decision.event }]);
  }

  private apply(changes: readonly BlockChange[]): void {
    for (const { before, event } of changes) {
      assert.equal(before.version, this.block.version, 'decided on the latest version');
      this.block = evolve(before, event);
    }
  }
}

/** What a node believes: it may use the address for its client until then, by true time. */
interface Belief {
  readonly client: string;
  readonly grant: number;
  readonly until: number;
}

/** Nodes, and the network between them and the leader, which loses, delays and reorders. */
class Cluster {
  readonly ledger = new Ledger();
  readonly beliefs = new Map<NodeName, Belief>();
  /** Requests for the address that are not answered: a node deals with one thing at a time. */
  readonly pending = new Map<NodeName, object>();
  network: (() => void)[] = [];
  /** By how much longer a second takes at each node; no more than the grace allows for. */
  readonly slowness: Readonly<Record<NodeName, number>>;

  constructor(slowness: Readonly<Record<NodeName, number>>) {
    this.slowness = slowness;
  }

  /** The node asks for the address; its lease counts from now. */
  acquire(node: NodeName, client: string): void {
    if (this.pending.has(node)) return;
    const sentAt = this.ledger.now;
    const request = {};
    this.pending.set(node, request);
    this.network.push(() => {
      const decision = this.ledger.acquire(node, client);
      if (decision.type === 'held') this.askForRelease(decision.node as NodeName, decision.grant);
      this.network.push(() => {
        if (this.pending.get(node) !== request) return;
        this.pending.delete(node);
        if (decision.type !== 'granted') return;
        this.beliefs.set(node, { client, grant: decision.lease.grant, until: this.leaseEnd(node, sentAt) });
      });
    });
  }

  /** No answer came in time; one that comes later has no effect. */
  giveUp(node: NodeName): void {
    this.pending.delete(node);
  }

  renew(node: NodeName): void {
    const belief = this.beliefs.get(node);
    if (belief === undefined) return;
    const sentAt = this.ledger.now;
    this.network.push(() => {
      const goesOn = this.ledger.renew(node, belief.grant);
      this.network.push(() => {
        if (this.beliefs.get(node)?.grant !== belief.grant) return;
        if (goesOn) this.beliefs.set(node, { ...belief, until: this.leaseEnd(node, sentAt) });
        else this.beliefs.delete(node);
      });
    });
  }

  /** The node ends the tunnel, then says so. */
  giveBack(node: NodeName, grant = this.beliefs.get(node)?.grant): void {
    if (grant === undefined || this.pending.has(node)) return;
    this.beliefs.delete(node);
    this.network.push(() => this.ledger.giveBack(node, grant));
  }

  /** The process ends; what it sent is under way still. */
  die(node: NodeName): void {
    this.beliefs.delete(node);
    this.pending.delete(node);
  }

  check(): void {
    const users = [...this.beliefs].filter(([, { until }]) => until > this.ledger.now);
    assert.ok(users.length <= 1, `used by ${JSON.stringify(users)}`);
    const [user] = users;
    if (user === undefined) return;
    const { state } = this.ledger.block;
    assert.ok(
      state.status === 'granted' && state.node === user[0],
      `${user[0]} uses it, granted is ${JSON.stringify(state)}`,
    );
  }

  private askForRelease(node: NodeName, grant: number): void {
    const arrive = (): void => {
      if (this.pending.has(node)) {
        this.network.push(arrive);
        return;
      }
      const belief = this.beliefs.get(node);
      if (belief === undefined || belief.grant <= grant) this.giveBack(node, grant);
    };
    this.network.push(arrive);
  }

  private leaseEnd(node: NodeName, sentAt: number): number {
    return sentAt + LEASE_MS * this.slowness[node];
  }
}

type Step =
  | { readonly type: 'acquire'; readonly node: NodeName; readonly client: string }
  | { readonly type: 'giveUp' | 'renew' | 'giveBack' | 'die'; readonly node: NodeName }
  | { readonly type: 'deliver' | 'lose'; readonly index: number }
  | { readonly type: 'pass'; readonly ms: number }
  | { readonly type: 'reclaim' }
  | { readonly type: 'own'; readonly client: string | undefined };

const node = fc.constantFrom(...NODES);
const client = fc.constantFrom(...CLIENTS);
const index = fc.nat(30);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ type: fc.constant('acquire' as const), node, client }) },
  { weight: 4, arbitrary: fc.record({ type: fc.constantFrom('giveUp', 'renew', 'giveBack', 'die'), node }) },
  { weight: 10, arbitrary: fc.record({ type: fc.constant('deliver' as const), index }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('lose' as const), index }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 40_000 }) }) },
  { weight: 1, arbitrary: fc.constant({ type: 'reclaim' as const }) },
  {
    weight: 1,
    arbitrary: fc.record({ type: fc.constant('own' as const), client: fc.option(client, { nil: undefined }) }),
  },
);

function take(cluster: Cluster, now: Step): void {
  switch (now.type) {
    case 'acquire':
      cluster.acquire(now.node, now.client);
      return;
    case 'giveUp':
    case 'renew':
    case 'giveBack':
    case 'die':
      cluster[now.type](now.node);
      return;
    case 'deliver':
    case 'lose': {
      const [message] = cluster.network.splice(now.index % Math.max(1, cluster.network.length), 1);
      if (now.type === 'deliver') message?.();
      return;
    }
    case 'pass':
      cluster.ledger.now += now.ms;
      return;
    case 'reclaim':
      cluster.ledger.reclaim();
      return;
    case 'own':
      cluster.ledger.owner = now.client;
      return;
    default:
      now satisfies never;
  }
}

test('whatever is lost, late or out of order, and whoever dies: no two nodes use a static address at once', () => {
  const slow = fc.double({ min: 1, max: 1 + STATIC_RECLAIM_GRACE_MS / LEASE_MS, noNaN: true, maxExcluded: true });
  const slowness = fc.record({ 'node-a': slow, 'node-b': slow, 'node-c': slow });
  fc.assert(
    fc.property(slowness, fc.array(step, { maxLength: 80, size: 'max' }), (slows, steps) => {
      const cluster = new Cluster(slows);
      for (const now of steps) {
        take(cluster, now);
        cluster.check();
      }
    }),
    { numRuns: 2_000 },
  );
});

const granted = (decision: ReturnType<Ledger['acquire']>): number => {
  assert.ok(decision.type === 'granted', JSON.stringify(decision));
  return decision.lease.grant;
};

test('the node that has the address is asked for it, and the other gets it once it is returned', () => {
  const ledger = new Ledger();
  const first = granted(ledger.acquire('node-a', 'alice'));
  const held = ledger.acquire('node-b', 'alice');
  assert.deepEqual(held, {
    type: 'held',
    node: 'node-a',
    grant: first,
    until: START + LEASE_MS + STATIC_RECLAIM_GRACE_MS,
  });
  assert.ok(ledger.giveBack('node-a', first));
  assert.equal(granted(ledger.acquire('node-b', 'alice')), first + 2);
});

test('a node that does not answer has the address until its lease and the grace are over, and not longer', () => {
  const ledger = new Ledger();
  const grant = granted(ledger.acquire('node-a', 'alice'));
  ledger.now += 30_000;
  assert.ok(ledger.renew('node-a', grant));
  ledger.now += LEASE_MS + STATIC_RECLAIM_GRACE_MS - 1;
  assert.equal(ledger.acquire('node-b', 'alice').type, 'held');
  ledger.now += 1;
  const next = granted(ledger.acquire('node-b', 'alice'));
  assert.ok(!ledger.renew('node-a', grant) && !ledger.giveBack('node-a', grant), 'the old grant says nothing any more');
  assert.ok(ledger.renew('node-b', next));
});

test('what was granted again to the same node is a new grant: a late return of the old one does not end it', () => {
  const ledger = new Ledger();
  const first = granted(ledger.acquire('node-a', 'alice'));
  const second = granted(ledger.acquire('node-a', 'alice'));
  assert.ok(second > first);
  assert.ok(!ledger.giveBack('node-a', first));
  assert.ok(ledger.renew('node-a', second));
});

test('the same client gets the address again at once, another one after it has rested', () => {
  const ledger = new Ledger();
  ledger.giveBack('node-a', granted(ledger.acquire('node-a', 'alice')));
  ledger.giveBack('node-b', granted(ledger.acquire('node-b', 'alice')));
  ledger.owner = 'bob';
  const early = ledger.acquire('node-b', 'bob');
  assert.ok(early.type === 'refused' && early.reply.code === 'resting');
  ledger.now += ADDRESS_REST_MS;
  granted(ledger.acquire('node-b', 'bob'));
});

test('an address of a block that was given back a moment ago rests as well', () => {
  const ledger = new Ledger();
  const state = { status: 'free', previousNode: 'node-c', freedAt: START - ADDRESS_REST_MS + 1 } as const;
  ledger.around = [{ ...newBlock('10.99.200.0/26', POOL), version: 2, state }];
  assert.equal(ledger.acquire('node-a', 'alice').type, 'refused');
  ledger.now += 1;
  granted(ledger.acquire('node-a', 'alice'));
});

test('who is not the owner gets nothing, and a grant ends when the address is taken from its client', () => {
  const ledger = new Ledger();
  const refused = ledger.acquire('node-a', 'bob');
  assert.ok(refused.type === 'refused' && refused.reply.code === 'not_assigned');
  const grant = granted(ledger.acquire('node-a', 'alice'));
  ledger.owner = 'bob';
  assert.ok(!ledger.renew('node-a', grant));
  ledger.owner = undefined;
  assert.ok(!ledger.renew('node-a', grant));
});

test('of a pool that retires nobody gets an address, who has one keeps it unless its tunnels are to be closed', () => {
  const ledger = new Ledger();
  const grant = granted(ledger.acquire('node-a', 'alice'));
  ledger.poolState = 'draining';
  assert.ok(ledger.renew('node-a', grant));
  const refused = ledger.acquire('node-b', 'alice');
  assert.ok(refused.type === 'refused' && refused.reply.code === 'unavailable');
  ledger.poolState = 'closing';
  assert.ok(!ledger.renew('node-a', grant));
});
