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
import { BLOCK_REST_MS } from '../../../control-plane/blocks/choose-block.ts';
import { type BlockChange, decideRequest } from '../../../control-plane/blocks/decide-request.ts';
import { evolvePool, newPool, type PoolAggregate } from '../../../control-plane/pools/pool-aggregate.ts';
import { parsePrefix, prefixCovers, prefixesOverlap } from '../../../shared/ip/prefix.ts';
import type { BlockReply, BlockRequest } from '../../../shared/nats/messages.ts';

const LEASE_MS = 600_000;
const poolOf = (prefixes: string[], blockPrefixV4 = 26, blockPrefixV6 = 120): PoolAggregate =>
  evolvePool(newPool('default'), {
    type: 'pool.added',
    at: '2026-01-01T00:00:00.000Z',
    data: { name: 'default', prefixes, blockPrefixV4, blockPrefixV6, actor: 'test' },
  });
const POOL = poolOf(['10.99.0.0/24', 'fd00:99::/118']);
const NODES = ['node-a', 'node-b', 'node-c'];

/** The ledger as the service runs it, in memory: load, decide, append, evolve. */
class Ledger {
  readonly pool: PoolAggregate;
  readonly blocks = new Map<string, BlockAggregate>();
  readonly log: BlockEvent[] = [];
  readonly grants = new Map<string, string>();
  now = Date.parse('2026-01-01T00:00:00.000Z');

  constructor(pool: PoolAggregate = POOL) {
    this.pool = pool;
  }

  request(request: BlockRequest): BlockReply {
    const earlierGrant = request.op === 'acquire' ? this.grants.get(request.requestId) : undefined;
    const context = { pool: this.pool, leaseMs: LEASE_MS, now: this.now, earlierGrant };
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
      POOL.layout.prefixes.some((pool) => prefixCovers(pool, block)),
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

/** The block of a reply, or why there is none. */
const blockOf = (reply: BlockReply) => (reply.ok ? reply.leases[0]?.block : reply.code);

test('when a pool runs low the blocks become smaller, so that more nodes get some, and then there is none, which is said', () => {
  const ledger = new Ledger(poolOf(['10.99.0.0/24']));
  const granted = Array.from({ length: 11 }, (_, i) =>
    blockOf(ledger.request(acquire(`node-${i}`, 4, freshRequest()))),
  );
  assert.deepEqual(granted, [
    '10.99.0.0/26',
    '10.99.0.64/27',
    '10.99.0.96/27',
    '10.99.0.128/27',
    '10.99.0.160/28',
    '10.99.0.176/28',
    '10.99.0.192/28',
    '10.99.0.208/28',
    '10.99.0.224/28',
    '10.99.0.240/28',
    'exhausted',
  ]);
});

test('parts of a block are granted whole again when all of them are free', () => {
  const ledger = new Ledger(poolOf(['10.99.0.0/24']));
  const blocks = Array.from({ length: 10 }, () => blockOf(ledger.request(acquire('node-a', 4, freshRequest()))) ?? '');
  ledger.request({ op: 'return', node: 'node-a', blocks });
  ledger.now += BLOCK_REST_MS;
  assert.equal(blockOf(ledger.request(acquire('node-b', 4, freshRequest()))), '10.99.0.0/26');
  assert.equal(blockOf(ledger.request(acquire('node-a', 4, freshRequest()))), '10.99.0.64/27', 'what it had before');
});

test('blocks that are as small as their pool has them are not split', () => {
  const ledger = new Ledger(poolOf(['10.99.0.0/28'], 30));
  const granted = Array.from({ length: 5 }, () => blockOf(ledger.request(acquire('node-a', 4, freshRequest()))));
  assert.deepEqual(granted, ['10.99.0.0/30', '10.99.0.4/30', '10.99.0.8/30', '10.99.0.12/30', 'exhausted']);
});

test('a pool that is not there, retires, or has no such family is refused as no_pool, which says so', () => {
  const now = Date.parse('2026-01-01T00:00:00.000Z');
  const retiring: PoolAggregate = { ...POOL, state: { status: 'retiring', since: now, closeTunnels: false } };
  const cases: [PoolAggregate, string][] = [
    [poolOf(['10.99.0.0/24']), 'pool "default" has no IPv6 addresses'],
    [newPool('default'), 'pool "default" does not exist'],
    [retiring, 'pool "default" is retiring'],
    [{ ...POOL, state: { status: 'retired', since: now } }, 'pool "default" is retired'],
  ];
  for (const [pool, message] of cases) {
    const reply = new Ledger(pool).request(acquire('node-a', 6, freshRequest()));
    assert.deepEqual(reply, { ok: false, code: 'no_pool', message });
  }
});

test('a node that remembers what rests gets its blocks back at once; others, and one that lost its memory, wait', () => {
  const ledger = new Ledger(poolOf(['10.99.0.0/28'], 30));
  const held = Array.from({ length: 4 }, () => blockOf(ledger.request(acquire('node-a', 4, freshRequest()))) ?? '');
  ledger.request({ op: 'return', node: 'node-a', blocks: held.slice(1, 2) });
  assert.equal(blockOf(ledger.request(acquire('node-b', 4, freshRequest()))), 'exhausted');
  assert.equal(blockOf(ledger.request(acquire('node-a', 4, freshRequest()))), 'exhausted');
  const remembering: BlockRequest = {
    op: 'acquire',
    node: 'node-a',
    family: 4,
    requestId: freshRequest(),
    remembers: true,
  };
  assert.equal(blockOf(ledger.request(remembering)), held[1]);
});

test('a node gets the block back that it had before, unused ones go first to others, rested ones last', () => {
  const ledger = new Ledger(poolOf(['10.99.0.0/28'], 30));
  assert.equal(blockOf(ledger.request(acquire('node-a', 4, freshRequest()))), '10.99.0.0/30');
  assert.equal(blockOf(ledger.request(acquire('node-b', 4, freshRequest()))), '10.99.0.4/30');
  ledger.request({ op: 'return', node: 'node-a', blocks: ['10.99.0.0/30'] });
  ledger.now += BLOCK_REST_MS;
  ledger.request({ op: 'return', node: 'node-b', blocks: ['10.99.0.4/30'] });
  ledger.now += BLOCK_REST_MS;
  assert.equal(blockOf(ledger.request(acquire('node-c', 4, freshRequest()))), '10.99.0.8/30');
  assert.equal(blockOf(ledger.request(acquire('node-b', 4, freshRequest()))), '10.99.0.4/30');
  assert.equal(blockOf(ledger.request(acquire('node-c', 4, freshRequest()))), '10.99.0.12/30');
  assert.equal(blockOf(ledger.request(acquire('node-c', 4, freshRequest()))), '10.99.0.0/30');
});

test('a returned block rests before anybody gets it again', () => {
  const ledger = new Ledger(poolOf(['10.99.0.0/28'], 30));
  for (let i = 0; i < 4; i++) ledger.request(acquire('node-a', 4, freshRequest()));
  ledger.request({ op: 'return', node: 'node-a', blocks: ['10.99.0.0/30'] });
  ledger.now += BLOCK_REST_MS - 1;
  assert.equal(blockOf(ledger.request(acquire('node-a', 4, freshRequest()))), 'exhausted');
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
  const before = new Ledger(poolOf(['10.99.0.0/22', 'fd00:99::/118']));
  before.request(acquire('node-a', 4, freshRequest()));
  before.request(acquire('node-a', 6, freshRequest()));
  const after = new Ledger(poolOf(['10.99.0.0/22', 'fd00:99::/118'], 25, 122));
  for (const [block, aggregate] of before.blocks) after.blocks.set(block, aggregate);
  assert.equal(blockOf(after.request(acquire('node-b', 4, freshRequest()))), '10.99.0.128/25');
  assert.equal(blockOf(after.request(acquire('node-b', 6, freshRequest()))), 'fd00:99::100/122');
});

test('a renewal that names something that is no prefix is refused as invalid', () => {
  const reply = new Ledger().request({ op: 'renew', node: 'node-a', blocks: ['10.99.0.1/26'] });
  assert.ok(!reply.ok && reply.code === 'invalid');
});
