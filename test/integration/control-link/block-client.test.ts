import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AddressBook } from '../../../data-plane/address/address-book.ts';
import { BlockClient } from '../../../data-plane/address/block-client.ts';
import { BlockLeases } from '../../../data-plane/address/block-leases.ts';
import { monotonicMs } from '../../../data-plane/address/boot-clock.ts';
import { formatAddress } from '../../../shared/ip/address.ts';
import { blockAt, DEFAULT_POOL } from '../../../shared/ip/block.ts';
import { formatPrefix, parsePrefix } from '../../../shared/ip/prefix.ts';
import {
  BLOCK_REQUEST_SUBJECTS,
  type BlockNotice,
  type BlockReply,
  type BlockRequest,
  blockNoticeMessage,
  blockNoticeSubject,
  blockReplyMessage,
  blockRequestMessage,
} from '../../../shared/nats/messages.ts';
import { needsBinary } from '../../support/requirements.ts';
import { waitFor } from '../../support/wait-for.ts';
import { LinkSetup, log } from './link-setup.ts';

const skip = needsBinary('nats-server', 'nats-server');
const POOL = parsePrefix('10.99.0.0/24');

/** Grants /29 blocks of one IPv4 pool, and there is no IPv6 pool. */
class Control {
  readonly requests: BlockRequest[] = [];
  readonly granted = new Map<string, string>();
  readonly lost = new Set<string>();
  leaseSeconds = 3600;
  silent = false;
  /** Blocks that the pool has. */
  capacity = 32;

  constructor(setup: LinkSetup) {
    setup.control.subscribe(BLOCK_REQUEST_SUBJECTS, {
      callback: (_error, message) => {
        const request = blockRequestMessage.decode(message.data);
        this.requests.push(request);
        const reply = this.#answer(request);
        if (!this.silent) message.respond(blockReplyMessage.encode(reply));
      },
    });
  }

  count(op: BlockRequest['op'], family?: number): number {
    return this.requests.filter((r) => r.op === op && (family === undefined || ('family' in r && r.family === family)))
      .length;
  }

  #answer(request: BlockRequest): BlockReply {
    const lease = (block: string) => ({ block, pool: formatPrefix(POOL), leaseSeconds: this.leaseSeconds });
    if (request.op === 'acquire') {
      if (request.pool === 'nowhere') return { ok: false, code: 'no_pool', message: 'there is no pool "nowhere"' };
      if (request.family === 6) return { ok: false, code: 'no_pool', message: 'no such pool' };
      const known = this.granted.get(request.requestId);
      if (known === undefined && this.granted.size >= this.capacity) {
        return { ok: false, code: 'exhausted', message: 'every block is taken' };
      }
      const block = known ?? formatPrefix(blockAt(POOL, 29, BigInt(this.granted.size)));
      this.granted.set(request.requestId, block);
      return { ok: true, leases: [lease(block)], lost: [] };
    }
    const lost = request.blocks.filter((block) => this.lost.has(block));
    return { ok: true, leases: request.blocks.filter((block) => !this.lost.has(block)).map(lease), lost };
  }
}

interface Clock {
  ahead: number;
}

function open(setup: LinkSetup, clock: Clock, bootId = 'boot-1', setUp: () => void = () => {}, shards = 1) {
  const granted: string[] = [];
  const closing: (readonly string[])[] = [];
  const lost: [string, readonly string[]][] = [];
  const leases = new BlockLeases();
  const now = () => monotonicMs() + clock.ahead;
  const book = new AddressBook({
    now,
    mayAssign: ({ block }) => leases.isAssignable(block, now()),
    stored: AddressBook.load(setup.database.reader),
  });
  const client = new BlockClient({
    node: 'node-a',
    shards,
    link: setup.link,
    database: setup.database,
    leases,
    book,
    log,
    now,
    bootId,
    onBlockGranted: ({ block }) => {
      setUp();
      granted.push(formatPrefix(block));
    },
    onBlockClosing: (connections) => void closing.push(connections),
    onBlockLost: ({ block }, connections) => void lost.push([formatPrefix(block), connections]),
  });
  setup.atEnd(() => client.stop());
  return { book, client, granted, lost, closing };
}

const until = (probe: () => boolean, what: string) => waitFor(probe, { timeoutMs: 10_000, what });

test('blocks are acquired until a quarter is free, and a family without a pool is asked for once', {
  skip,
}, async (t) => {
  const setup = await LinkSetup.start(t);
  const control = new Control(setup);
  const node = open(setup, { ahead: 0 });
  await node.client.start();
  await until(() => node.granted.length === 1, 'the first block');
  for (let i = 0; i < 6; i++) {
    node.book.assign({
      shard: 0,
      pool: DEFAULT_POOL,
      clientId: `client-${i}`,
      connectionId: `c${i}`,
      families: [4, 6],
    });
    node.client.nudge();
  }
  await until(() => node.granted.length === 2, 'a second block');
  assert.deepEqual(node.granted, ['10.99.0.0/29', '10.99.0.8/29']);
  assert.equal(control.count('acquire', 6), 1);
  assert.equal(control.count('renew'), 0);
});

test('a request without an answer is repeated under its id, so nothing is granted twice', { skip }, async (t) => {
  const setup = await LinkSetup.start(t);
  const control = new Control(setup);
  control.silent = true;
  const node = open(setup, { ahead: 0 });
  await node.client.start();
  await until(() => control.count('acquire', 4) === 1, 'the first request');
  control.silent = false;
  await waitFor(() => node.granted.length === 1, { timeoutMs: 20_000, what: 'the block' });
  assert.equal(control.granted.size, 1);
});

test('a restarted node goes on with its blocks; after a reboot it renews them first', { skip }, async (t) => {
  const setup = await LinkSetup.start(t);
  const control = new Control(setup);
  const first = open(setup, { ahead: 0 });
  await first.client.start();
  await until(() => first.granted.length === 1, 'the block');
  first.client.stop();
  setup.reopenDatabase();
  const second = open(setup, { ahead: 0 });
  await second.client.start();
  assert.deepEqual(second.granted, ['10.99.0.0/29']);
  second.client.stop();
  setup.reopenDatabase();
  const acquired = control.count('acquire', 4);
  const third = open(setup, { ahead: 0 }, 'boot-2');
  await third.client.start();
  await until(() => third.granted.length === 1, 'the block to be renewed');
  assert.equal(control.count('renew'), 1);
  assert.equal(control.count('acquire', 4), acquired);
});

test('leases are renewed in time; one that cannot be renewed ends its connections, and one that is lost at once', {
  skip,
}, async (t) => {
  const setup = await LinkSetup.start(t);
  const control = new Control(setup);
  const clock = { ahead: 0 };
  const node = open(setup, clock);
  await node.client.start();
  await until(() => node.granted.length === 1, 'the block');
  node.book.assign({ shard: 0, pool: DEFAULT_POOL, clientId: 'alice', connectionId: 'c1', families: [4] });
  clock.ahead += 5 * 60_000;
  await until(() => control.count('renew') === 1, 'the renewal');
  control.lost.add('10.99.0.0/29');
  clock.ahead += 5 * 60_000;
  await until(() => node.lost.length === 1, 'the loss');
  assert.deepEqual(node.lost[0], ['10.99.0.0/29', ['c1']]);
  await until(() => node.granted.length === 2, 'another block');

  node.book.assign({ shard: 0, pool: DEFAULT_POOL, clientId: 'bob', connectionId: 'c2', families: [4] });
  await setup.nats.stop();
  await until(() => !setup.link.connected, 'the loss of NATS to be noticed');
  clock.ahead += 3_541_000;
  assert.throws(
    () => node.book.assign({ shard: 0, pool: DEFAULT_POOL, clientId: 'carol', connectionId: 'c3', families: [4] }),
    {
      code: 'ADDRESSES_EXHAUSTED',
    },
  );
  assert.equal(node.lost.length, 1);
  clock.ahead += 60_000;
  await until(() => node.lost.length === 2, 'the end of the lease');
  assert.deepEqual(node.lost[1], ['10.99.0.8/29', ['c2']]);
  assert.deepEqual(node.client.blocks, []);
});

test('a block that cannot be set up is tried again, and no other is taken in its place', { skip }, async (t) => {
  const setup = await LinkSetup.start(t);
  const control = new Control(setup);
  let attempts = 0;
  let isPossible = false;
  const node = open(setup, { ahead: 0 }, 'boot-1', () => {
    attempts++;
    if (!isPossible) throw new Error('no route can be set');
  });
  await node.client.start();
  await until(() => attempts >= 3, 'some attempts');
  assert.equal(control.count('acquire', 4), 1);
  assert.deepEqual(node.client.blocks, []);
  isPossible = true;
  await until(() => node.granted.length === 1, 'the block');
  assert.equal(control.count('acquire', 4), 1);
});

/** The blocks in use by shard. */
const byShard = (client: BlockClient, shards: number) =>
  Array.from({ length: shards }, (_, shard) =>
    client.blocks.filter((held) => held.shard === shard).map(({ block }) => formatPrefix(block)),
  );

test('each shard is kept supplied, and has its blocks again after a restart with as many; others get them with fewer', {
  skip,
}, async (t) => {
  const setup = await LinkSetup.start(t);
  const control = new Control(setup);
  const restart = async (before: BlockClient, shards: number) => {
    before.stop();
    setup.reopenDatabase();
    const after = open(setup, { ahead: 0 }, 'boot-1', () => {}, shards);
    await after.client.start();
    return after;
  };
  const first = open(setup, { ahead: 0 }, 'boot-1', () => {}, 2);
  await first.client.start();
  await until(() => first.client.areSupplied, 'a block for each shard');
  for (let i = 0; i < 6; i++) {
    first.book.assign({ shard: 1, pool: DEFAULT_POOL, clientId: `client-${i}`, connectionId: `c${i}`, families: [4] });
    first.client.nudge();
  }
  const held = [['10.99.0.0/29'], ['10.99.0.8/29', '10.99.0.16/29']];
  await until(() => first.client.blocks.length === 3, 'a second block of the shard with many clients');
  assert.deepEqual(byShard(first.client, 2), held);

  const second = await restart(first.client, 2);
  assert.deepEqual(byShard(second.client, 2), held);
  const third = await restart(second.client, 1);
  assert.deepEqual(byShard(third.client, 1).flat().sort(), held.flat().sort());
  const fourth = await restart(third.client, 4);
  await until(() => fourth.client.areSupplied, 'a block for each of four shards');
  assert.equal(control.granted.size, 4, 'one more than there were');
});

test('when the pool is spent, a shard whose client waits gets a block that nobody uses, and another what a shard can spare', {
  skip,
}, async (t) => {
  const setup = await LinkSetup.start(t);
  const control = new Control(setup);
  control.capacity = 2;
  const node = open(setup, { ahead: 0 }, 'boot-1', () => {}, 2);
  await node.client.start();
  await until(() => node.client.areSupplied, 'a block for each shard');
  const take = (shard: number, id: string) =>
    node.book.assign({ shard, pool: DEFAULT_POOL, clientId: id, connectionId: id, families: [4] });
  for (let i = 0; i < 6; i++) take(0, `a${i}`);
  // It wants more, and there is none: the only block of the other stays where it is, since nobody waits.
  await until(() => control.count('acquire', 4) >= 3, 'a request that is refused');
  assert.deepEqual(byShard(node.client, 2), [['10.99.0.0/29'], ['10.99.0.8/29']]);
  assert.throws(() => take(0, 'waits'), { code: 'ADDRESSES_EXHAUSTED' });
  await node.client.demand(0, DEFAULT_POOL);
  assert.deepEqual(byShard(node.client, 2), [['10.99.0.0/29', '10.99.0.8/29'], []]);
  assert.deepEqual(node.lost.at(-1), ['10.99.0.8/29', []]);
  take(0, 'waits');

  // Somebody has an address in each: none moves, and who waits is told so at once.
  await node.client.demand(1, DEFAULT_POOL);
  assert.throws(() => take(1, 'too-late'), { code: 'ADDRESSES_EXHAUSTED' });
  node.book.release('waits');
  await node.client.demand(1, DEFAULT_POOL);
  assert.equal(node.client.areSupplied, true);
  take(1, 'now');
});

test('while NATS is away an idle block still goes where a client waits', { skip }, async (t) => {
  const setup = await LinkSetup.start(t);
  new Control(setup);
  const node = open(setup, { ahead: 0 }, 'boot-1', () => {}, 2);
  await node.client.start();
  await until(() => node.client.areSupplied, 'a block for each shard');
  await setup.nats.stop();
  await until(() => !setup.link.connected, 'the loss of NATS to be noticed');
  const take = (id: string) =>
    node.book.assign({ shard: 0, pool: DEFAULT_POOL, clientId: id, connectionId: id, families: [4] });
  for (let i = 0; i < 6; i++) take(`a${i}`);
  assert.throws(() => take('waits'), { code: 'ADDRESSES_EXHAUSTED' });
  await node.client.demand(0, DEFAULT_POOL);
  take('waits');
});

test('of another pool come blocks of the families only that are wanted', { skip }, async (t) => {
  const setup = await LinkSetup.start(t);
  const control = new Control(setup);
  const node = open(setup, { ahead: 0 });
  await node.client.start();
  await until(() => node.granted.length === 1, 'the block of the default pool');
  await node.client.demand(0, 'office', [6]);
  const asked = control.requests.flatMap((request) => (request.op === 'acquire' && request.pool ? [request] : []));
  assert.deepEqual(
    asked.map(({ pool, family }) => [pool, family]),
    [['office', 6]],
  );
});

test('blocks of another pool come when a client of it does, and go when nobody has been there for a while', {
  skip,
}, async (t) => {
  const setup = await LinkSetup.start(t);
  const control = new Control(setup);
  const clock = { ahead: 0 };
  const node = open(setup, clock);
  await node.client.start();
  await until(() => node.granted.length === 1, 'the block of the default pool');
  const take = (id: string) =>
    node.book.assign({ shard: 0, pool: 'office', clientId: id, connectionId: id, families: [4, 6] });
  assert.throws(() => take('alice'), { code: 'ADDRESSES_EXHAUSTED' });
  await node.client.demand(0, 'office');
  take('alice');
  const pools = () => node.client.blocks.map(({ poolName }) => poolName);
  assert.deepEqual(pools(), ['default', 'office']);
  assert.equal(await node.client.demand(0, 'nowhere'), 'there is no pool "nowhere"');
  clock.ahead += 11 * 60_000;
  node.book.release('alice');
  clock.ahead += 60_000;
  await node.client.demand(0, DEFAULT_POOL);
  clock.ahead += 11 * 60_000;
  await until(() => control.count('return') === 1, 'the block to be given back');
  assert.deepEqual(control.requests.at(-1), { op: 'return', node: 'node-a', blocks: ['10.99.0.8/29'] });
  assert.deepEqual(pools(), ['default']);
});

test('of half-empty blocks the emptiest is emptied and given back, unless it is needed before', { skip }, async (t) => {
  const setup = await LinkSetup.start(t);
  const control = new Control(setup);
  const clock = { ahead: 0 };
  const node = open(setup, clock);
  await node.client.start();
  await until(() => node.granted.length === 1, 'the first block');
  const take = (id: string) =>
    formatAddress(
      node.book.assign({ shard: 0, pool: DEFAULT_POOL, clientId: id, connectionId: id, families: [4] }).addresses[0]!
        .address,
    );
  for (let i = 0; i < 6; i++) take(`c${i}`);
  await node.client.demand(0, DEFAULT_POOL);
  assert.equal(node.granted.length, 2);
  assert.equal(take('last'), '10.99.0.9');
  for (let i = 1; i < 6; i++) node.book.release(`c${i}`);
  clock.ahead += 60_000;
  await node.client.demand(0, DEFAULT_POOL);
  clock.ahead += 10 * 60_000;
  await node.client.demand(0, DEFAULT_POOL);
  // Both have one client; the later one is to be emptied, so newcomers get addresses of the other.
  assert.equal(take('new'), '10.99.0.3');
  for (let i = 0; i < 4; i++) take(`d${i}`);
  await node.client.demand(0, DEFAULT_POOL);
  assert.equal(control.count('acquire', 4), 2, 'the block that was to be emptied is kept');
  assert.equal(take('more'), '10.99.0.10');
  node.book.release('last');
  node.book.release('more');
  for (let i = 0; i < 4; i++) node.book.release(`d${i}`);
  clock.ahead += 60_000;
  await node.client.demand(0, DEFAULT_POOL);
  clock.ahead += 10 * 60_000;
  await until(() => control.count('return') === 1, 'the block to be given back');
  assert.deepEqual(control.requests.at(-1), { op: 'return', node: 'node-a', blocks: ['10.99.0.8/29'] });
});

test('a block that the control plane wants back takes nobody in, is given back when it is empty, at once if so wished', {
  skip,
}, async (t) => {
  const setup = await LinkSetup.start(t);
  const control = new Control(setup);
  const node = open(setup, { ahead: 0 });
  await node.client.start();
  await until(() => node.granted.length === 1, 'the block');
  const take = (id: string) =>
    node.book.assign({ shard: 0, pool: DEFAULT_POOL, clientId: id, connectionId: id, families: [4] });
  take('alice');
  const notify = (notice: BlockNotice) =>
    setup.control.publish(blockNoticeSubject('node-a'), blockNoticeMessage.encode(notice));
  notify({ draining: ['10.99.0.0/29', '10.99.0.64/29'], closing: [] });
  await until(() => node.granted.length === 2, 'a block in its place');
  const { addresses } = take('bob');
  assert.equal(formatAddress(addresses[0]!.address), '10.99.0.9');
  assert.deepEqual([control.count('return'), node.closing], [0, []]);
  notify({ draining: [], closing: ['10.99.0.0/29'] });
  await until(() => node.closing.length > 0, 'the tunnels to be closed');
  assert.deepEqual(node.closing[0], ['alice']);
  node.book.release('alice');
  await until(() => control.count('return') === 1, 'the block to be given back');
  assert.deepEqual(control.requests.at(-1), { op: 'return', node: 'node-a', blocks: ['10.99.0.0/29'] });
});

test('a node that stops gives back what nobody uses, and asks for it again knowing what rests there', {
  skip,
}, async (t) => {
  const setup = await LinkSetup.start(t);
  const control = new Control(setup);
  const first = open(setup, { ahead: 0 }, 'boot-1', () => {}, 2);
  await first.client.start();
  await until(() => first.client.areSupplied, 'a block for each shard');
  const acquires = () => control.requests.filter(({ op }) => op === 'acquire');
  assert.ok(
    acquires().every((request) => !('remembers' in request)),
    'its state may be new',
  );
  const change = first.book.assign({
    shard: 0,
    pool: DEFAULT_POOL,
    clientId: 'alice',
    connectionId: 'c1',
    families: [4],
  });
  await setup.database.commit(change.save);
  await first.client.giveBackAll();
  assert.deepEqual(control.requests.at(-1), { op: 'return', node: 'node-a', blocks: ['10.99.0.8/29'] });
  setup.reopenDatabase();
  const before = acquires().length;
  const second = open(setup, { ahead: 0 }, 'boot-1', () => {}, 2);
  await second.client.start();
  assert.deepEqual(second.granted, ['10.99.0.0/29'], 'somebody had an address of it');
  await until(() => second.client.areSupplied, 'a block for each shard');
  assert.ok(acquires().length > before);
  assert.ok(
    acquires()
      .slice(before)
      .every((request) => 'remembers' in request && request.remembers),
  );
});
