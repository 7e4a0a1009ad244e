import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type BlockAggregate,
  type BlockEvent,
  decide,
  evolve,
  newBlock,
  RECLAIM_GRACE_MS,
} from '../../../control-plane/blocks/block-aggregate.ts';
import { BLOCK_REST_MS, type PoolLayout } from '../../../control-plane/blocks/choose-block.ts';
import { type BlockChange, decideRequest } from '../../../control-plane/blocks/decide-request.ts';
import { parsePrefix, prefixCovers, prefixesOverlap } from '../../../shared/ip/prefix.ts';
import type { BlockReply, BlockRequest } from '../../../shared/nats/messages.ts';

const LEASE_MS = 600_000;
const LAYOUT: PoolLayout = {
  pools: [parsePrefix('10.99.0.0/24'), parsePrefix('fd00:99::/118')],
  blockLength: { 4: 26, 6: 120 },
};
const NODES = ['node-a', 'node-b', 'node-c'];

/** The ledger as the service runs it, in memory: load, decide, append, evolve. */
class Ledger {
  readonly layout: PoolLayout;
  readonly blocks = new Map<string, BlockAggregate>();
  readonly log: BlockEvent[] = [];
  readonly grants = new Map<string, string>();
  now = Date.parse('2026-01-01T00:00:00.000Z');

  constructor(layout: PoolLayout = LAYOUT) {
    this.layout = layout;
  }

  request(request: BlockRequest): BlockReply {
    const earlierGrant = request.op === 'acquire' ? this.grants.get(request.requestId) : undefined;
    const context = { layout: this.layout, leaseMs: LEASE_MS, now: this.now, earlierGrant };
    const { changes, reply } = decideRequest(this.blocks, request, context);
    this.apply(changes);
    if (request.op === 'acquire' && reply.ok) this.grants.set(request.requestId, reply.leases[0]?.block ?? '');
    return reply;
  }

  reclaim(): void {
    for (const before of [...this.blocks.values()]) {
      const decision = decide(before, { type: 'reclaim', now: this.now });
      if (decision.ok) this.apply([{ before, event: decision.event }]);
    }
  }

  granted(): BlockAggregate[] {
    return [...this.blocks.values()].filter(({ state }) => state.status === 'granted');
  }

  private apply(changes: readonly BlockChange[]): void {
    for (const { before, event } of changes) {
      const current = this.blocks.get(before.block)?.version ?? 0;
      assert.equal(before.version, current, 'decided on the latest version');
      this.blocks.set(before.block, evolve(before, event));
      this.log.push(event);
    }
  }
}

const acquire = (node: string, family: 4 | 6, requestId: string): BlockRequest => ({
  op: 'acquire',
  node,
  family,
  requestId,
});
let requests = 0;
const freshRequest = () => (++requests).toString(16).padStart(32, '0');

/** What each node believes it may use: it counts its lease from the moment at which it sent the request. */
type Beliefs = Map<string, { node: string; until: number }>;

function learn(beliefs: Beliefs, node: string, sentAt: number, reply: BlockReply): void {
  if (!reply.ok) return;
  for (const { block, leaseSeconds } of reply.leases) {
    beliefs.set(`${node} ${block}`, { node, until: sentAt + leaseSeconds * 1000 });
  }
  for (const block of reply.lost) beliefs.delete(`${node} ${block}`);
}

interface Model {
  beliefs: Beliefs;
}

function checkInvariants(ledger: Ledger, { beliefs }: Model): void {
  const granted = ledger.granted();
  for (const [i, a] of granted.entries()) {
    const block = parsePrefix(a.block);
    assert.ok(
      LAYOUT.pools.some((pool) => prefixCovers(pool, block)),
      `${a.block} lies in a pool`,
    );
    for (const b of granted.slice(i + 1)) {
      assert.ok(!prefixesOverlap(block, parsePrefix(b.block)), `${a.block} and ${b.block} overlap`);
    }
  }
  const users = new Map<string, string>();
  for (const [key, { node, until }] of beliefs) {
    if (until <= ledger.now) continue;
    const block = key.slice(node.length + 1);
    const state = ledger.blocks.get(block)?.state;
    assert.ok(state?.status === 'granted' && state.node === node, `${node} uses ${block}, which is not granted to it`);
    assert.equal(users.get(block), undefined, `${block} is used by two nodes`);
    users.set(block, node);
  }
}

const node = fc.constantFrom(...NODES);
const family = fc.constantFrom<4 | 6>(4, 6);

class AcquireCommand implements fc.Command<Model, Ledger> {
  readonly node: string;
  readonly family: 4 | 6;
  readonly repeat: boolean;
  constructor(node: string, family: 4 | 6, repeat: boolean) {
    this.node = node;
    this.family = family;
    this.repeat = repeat;
  }
  check = () => true;
  run(model: Model, ledger: Ledger): void {
    const id = freshRequest();
    const first = ledger.request(acquire(this.node, this.family, id));
    learn(model.beliefs, this.node, ledger.now, first);
    if (this.repeat) assert.deepEqual(ledger.request(acquire(this.node, this.family, id)), first);
    checkInvariants(ledger, model);
  }
  toString = () => `acquire(${this.node}, v${this.family}${this.repeat ? ', twice' : ''})`;
}

class HoldingsCommand implements fc.Command<Model, Ledger> {
  readonly op: 'renew' | 'return';
  readonly node: string;
  readonly others: boolean;
  constructor(op: 'renew' | 'return', node: string, others: boolean) {
    this.op = op;
    this.node = node;
    this.others = others;
  }
  check = () => true;
  run(model: Model, ledger: Ledger): void {
    const blocks = ledger
      .granted()
      .filter(({ state }) => this.others || (state.status === 'granted' && state.node === this.node))
      .map(({ block }) => block);
    // A node forgets a block before it says that it gives it back.
    if (this.op === 'return') for (const block of blocks) model.beliefs.delete(`${this.node} ${block}`);
    const reply = ledger.request({ op: this.op, node: this.node, blocks });
    learn(model.beliefs, this.node, ledger.now, reply);
    checkInvariants(ledger, model);
  }
  toString = () => `${this.op}(${this.node}${this.others ? ', everything' : ''})`;
}

class PassTimeCommand implements fc.Command<Model, Ledger> {
  readonly milliseconds: number;
  readonly reclaim: boolean;
  constructor(milliseconds: number, reclaim: boolean) {
    this.milliseconds = milliseconds;
    this.reclaim = reclaim;
  }
  check = () => true;
  run(model: Model, ledger: Ledger): void {
    ledger.now += this.milliseconds;
    if (this.reclaim) ledger.reclaim();
    checkInvariants(ledger, model);
  }
  toString = () => `pass(${this.milliseconds} ms${this.reclaim ? ', reclaim' : ''})`;
}

const commands = fc.commands(
  [
    fc.tuple(node, family, fc.boolean()).map((args) => new AcquireCommand(...args)),
    fc.tuple(fc.constantFrom('renew', 'return'), node, fc.boolean()).map((args) => new HoldingsCommand(...args)),
    fc.tuple(fc.integer({ min: 1, max: 900_000 }), fc.boolean()).map((args) => new PassTimeCommand(...args)),
  ],
  { maxCommands: 60, size: 'max' },
);

test('no block is ever granted twice at once, and no node uses one that is not its own', () => {
  fc.assert(
    fc.property(commands, (list) => {
      fc.modelRun(() => ({ model: { beliefs: new Map() }, real: new Ledger() }), list);
    }),
    { numRuns: 150 },
  );
});

test('every lease ends: without renewals all blocks are free after lease and grace', () => {
  fc.assert(
    fc.property(commands, (list) => {
      const ledger = new Ledger();
      fc.modelRun(() => ({ model: { beliefs: new Map() }, real: ledger }), list);
      ledger.now += LEASE_MS + RECLAIM_GRACE_MS;
      ledger.reclaim();
      assert.deepEqual(ledger.granted(), []);
    }),
    { numRuns: 50 },
  );
});

test('the log alone leads to the same states and versions', () => {
  fc.assert(
    fc.property(commands, (list) => {
      const ledger = new Ledger();
      fc.modelRun(() => ({ model: { beliefs: new Map() }, real: ledger }), list);
      const replayed = new Map<string, BlockAggregate>();
      for (const event of ledger.log) {
        const { block, pool } = event.data;
        replayed.set(block, evolve(replayed.get(block) ?? newBlock(block, pool), event));
      }
      assert.deepEqual(replayed, ledger.blocks);
    }),
    { numRuns: 50 },
  );
});

test('a pool of four blocks is exhausted by the fifth request, which says so', () => {
  const ledger = new Ledger();
  for (let i = 0; i < 4; i++) assert.ok(ledger.request(acquire('node-a', 4, freshRequest())).ok);
  const fifth = ledger.request(acquire('node-b', 4, freshRequest()));
  assert.ok(!fifth.ok && fifth.code === 'exhausted');
});

test('a family without a pool is refused as no_pool', () => {
  const ledger = new Ledger({ ...LAYOUT, pools: [parsePrefix('10.99.0.0/24')] });
  const reply = ledger.request(acquire('node-a', 6, freshRequest()));
  assert.ok(!reply.ok && reply.code === 'no_pool');
});

test('a node gets the block back that it had before, unused ones go first to others, rested ones last', () => {
  const ledger = new Ledger();
  const blockOf = (reply: BlockReply) => (reply.ok ? reply.leases[0]?.block : reply.code);
  assert.equal(blockOf(ledger.request(acquire('node-a', 4, freshRequest()))), '10.99.0.0/26');
  assert.equal(blockOf(ledger.request(acquire('node-b', 4, freshRequest()))), '10.99.0.64/26');
  ledger.request({ op: 'return', node: 'node-a', blocks: ['10.99.0.0/26'] });
  ledger.now += BLOCK_REST_MS;
  ledger.request({ op: 'return', node: 'node-b', blocks: ['10.99.0.64/26'] });
  ledger.now += BLOCK_REST_MS;
  assert.equal(blockOf(ledger.request(acquire('node-c', 4, freshRequest()))), '10.99.0.128/26');
  assert.equal(blockOf(ledger.request(acquire('node-b', 4, freshRequest()))), '10.99.0.64/26');
  assert.equal(blockOf(ledger.request(acquire('node-c', 4, freshRequest()))), '10.99.0.192/26');
  assert.equal(blockOf(ledger.request(acquire('node-c', 4, freshRequest()))), '10.99.0.0/26');
});

test('a returned block rests before anybody gets it again', () => {
  const ledger = new Ledger();
  for (let i = 0; i < 4; i++) ledger.request(acquire('node-a', 4, freshRequest()));
  ledger.request({ op: 'return', node: 'node-a', blocks: ['10.99.0.0/26'] });
  ledger.now += BLOCK_REST_MS - 1;
  const early = ledger.request(acquire('node-a', 4, freshRequest()));
  assert.ok(!early.ok && early.code === 'exhausted');
  ledger.now += 1;
  assert.ok(ledger.request(acquire('node-a', 4, freshRequest())).ok);
});

test('an expired lease is renewed while it is not reclaimed, and reclaimed only after the grace', () => {
  const ledger = new Ledger();
  ledger.request(acquire('node-a', 4, freshRequest()));
  ledger.now += LEASE_MS + RECLAIM_GRACE_MS - 1;
  ledger.reclaim();
  assert.equal(ledger.granted().length, 1);
  const renewed = ledger.request({ op: 'renew', node: 'node-a', blocks: ['10.99.0.0/26', '10.99.0.64/26'] });
  assert.ok(renewed.ok);
  assert.deepEqual(
    renewed.leases.map(({ block }) => block),
    ['10.99.0.0/26'],
  );
  assert.deepEqual(renewed.lost, ['10.99.0.64/26']);
});

test('after a change of the block length nothing overlaps what is still granted', () => {
  const before = new Ledger();
  before.request(acquire('node-a', 4, freshRequest()));
  before.request(acquire('node-a', 6, freshRequest()));
  const after = new Ledger({ ...LAYOUT, blockLength: { 4: 25, 6: 122 } });
  for (const [block, aggregate] of before.blocks) after.blocks.set(block, aggregate);
  const four = after.request(acquire('node-b', 4, freshRequest()));
  const six = after.request(acquire('node-b', 6, freshRequest()));
  assert.ok(four.ok && six.ok);
  assert.equal(four.leases[0]?.block, '10.99.0.128/25');
  assert.equal(six.leases[0]?.block, 'fd00:99::100/122');
});

test('a renewal that names something that is no prefix is refused as invalid', () => {
  const reply = new Ledger().request({ op: 'renew', node: 'node-a', blocks: ['10.99.0.1/26'] });
  assert.ok(!reply.ok && reply.code === 'invalid');
});
