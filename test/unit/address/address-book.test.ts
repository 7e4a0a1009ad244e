import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import fc from 'fast-check';
import { AddressBook, type StoredAssignment } from '../../../data-plane/address/address-book.ts';
import type { ShardBlock } from '../../../data-plane/address/shard-block.ts';
import { SCHEMA_VERSIONS } from '../../../data-plane/state/schema.ts';
import { formatAddress, parseAddress } from '../../../shared/ip/address.ts';
import { ADDRESS_REST_MS, DEFAULT_POOL, isAssignable } from '../../../shared/ip/block.ts';
import { parsePrefix, prefixContains } from '../../../shared/ip/prefix.ts';

const V4: ShardBlock = {
  shard: 0,
  poolName: DEFAULT_POOL,
  pool: parsePrefix('10.99.0.0/24'),
  block: parsePrefix('10.99.0.0/29'),
};
const V4_NEXT: ShardBlock = { shard: 0, poolName: DEFAULT_POOL, pool: V4.pool, block: parsePrefix('10.99.0.8/29') };
const V6: ShardBlock = {
  shard: 0,
  poolName: DEFAULT_POOL,
  pool: parsePrefix('fd00:99::/64'),
  block: parsePrefix('fd00:99::/120'),
};

function bookAt(clock: { now: number }, stored: StoredAssignment[] = []): AddressBook {
  return new AddressBook({ now: () => clock.now, wallClock: () => clock.now, mayAssign: () => true, stored });
}

let connections = 0;
function assign(book: AddressBook, clientId: string, families: (4 | 6)[] = [4], shard = 0) {
  const connectionId = `c${++connections}`;
  return {
    connectionId,
    addresses: book.assign({ shard, pool: DEFAULT_POOL, clientId, connectionId, families }).addresses,
  };
}
const only = (addresses: readonly { address: Parameters<typeof formatAddress>[0] }[]) =>
  addresses.map(({ address }) => formatAddress(address)).join();

test('a client gets one address of each family of which there are blocks', () => {
  const book = bookAt({ now: 0 });
  assert.throws(() => assign(book, 'a', [4, 6]), { code: 'ADDRESSES_EXHAUSTED' });
  book.addBlock(V4);
  assert.equal(only(assign(book, 'a', [4, 6]).addresses), '10.99.0.2');
  book.addBlock(V6);
  assert.equal(only(assign(book, 'b', [4, 6]).addresses), '10.99.0.3,fd00:99::2');
});

test('when one family is exhausted nothing is assigned of the other', () => {
  const book = bookAt({ now: 0 });
  book.addBlock(V4);
  book.addBlock(V6);
  for (let i = 0; i < 6; i++) assign(book, `client-${i}`, [4]);
  const before = book.count(6);
  assert.throws(() => assign(book, 'late', [6, 4]), { code: 'ADDRESSES_EXHAUSTED', family: 4 });
  assert.deepEqual(book.count(6), before);
});

test('a returning client gets its last address back; others wait until it has rested', () => {
  const clock = { now: 0 };
  const book = bookAt(clock);
  book.addBlock(V4);
  const all = Array.from({ length: 6 }, (_, i) => assign(book, `client-${i}`));
  book.release(all[2]!.connectionId);
  assert.throws(() => assign(book, 'other'), { code: 'ADDRESSES_EXHAUSTED' });
  assert.equal(only(assign(book, 'client-2').addresses), only(all[2]!.addresses));
  book.release(all[4]!.connectionId);
  clock.now += ADDRESS_REST_MS;
  assert.equal(only(assign(book, 'other').addresses), only(all[4]!.addresses));
});

test('item 22 a wish comes true where the address is free or was the own, and else is as none', () => {
  const clock = { now: 0 };
  const book = bookAt(clock);
  book.addBlock(V4);
  const wish = (clientId: string, ...texts: string[]) => {
    const connectionId = `w${++connections}`;
    const wished = texts.map(parseAddress);
    return {
      connectionId,
      text: only(
        book.assign({ shard: 0, pool: DEFAULT_POOL, clientId, connectionId, families: [4], wished }).addresses,
      ),
    };
  };
  const mine = wish('a', '10.99.0.5');
  assert.equal(mine.text, '10.99.0.5');
  assert.equal(wish('b', '10.99.0.5').text, '10.99.0.2', 'taken');
  assert.equal(wish('c', '10.99.0.1', '10.99.0.0', '10.98.0.4').text, '10.99.0.3', 'the node, the network, elsewhere');
  assert.equal(wish('d', 'fd00:99::5', '10.99.0.7').text, '10.99.0.7', 'the first that can be had');
  book.release(mine.connectionId);
  assert.equal(wish('e', '10.99.0.5').text, '10.99.0.4', 'it rests');
  const again = wish('a', '10.99.0.5');
  assert.equal(again.text, '10.99.0.5', 'its own');
  book.release(again.connectionId);
  clock.now += ADDRESS_REST_MS;
  assert.equal(wish('e', '10.99.0.5').text, '10.99.0.5', 'it has rested');
  assert.equal(only(assign(book, 'f').addresses), '10.99.0.6', 'what a wish took out of turn is passed over');
});

test('addresses are given again in the order of their release', () => {
  const clock = { now: 0 };
  const book = bookAt(clock);
  book.addBlock(V4);
  const all = Array.from({ length: 6 }, (_, i) => assign(book, `client-${i}`));
  for (const i of [3, 1, 5]) {
    clock.now += 1;
    book.release(all[i]!.connectionId);
  }
  clock.now += ADDRESS_REST_MS;
  const given = [1, 2, 3].map((i) => only(assign(book, `other-${i}`).addresses));
  assert.deepEqual(
    given,
    [3, 1, 5].map((i) => only(all[i]!.addresses)),
  );
});

test('a restart takes what was assigned as released, and lets it rest', () => {
  const clock = { now: 1_000_000 };
  const db = new DatabaseSync(':memory:');
  db.exec(SCHEMA_VERSIONS[0]!);
  const book = bookAt(clock);
  book.addBlock(V4);
  for (let i = 0; i < 6; i++) {
    const connectionId = `before-${i}`;
    book.assign({ shard: 0, pool: DEFAULT_POOL, clientId: `client-${i}`, connectionId, families: [4] }).save(db);
  }
  book.release('before-0').save(db);
  clock.now += ADDRESS_REST_MS;
  const after = bookAt(clock, AddressBook.load(db));
  after.addBlock(V4);
  assert.equal(after.count(4).free, 1n);
  assert.equal(only(assign(after, 'client-3').addresses), '10.99.0.5');
  assert.equal(only(assign(after, 'stranger').addresses), '10.99.0.2');
  assert.throws(() => assign(after, 'another'), { code: 'ADDRESSES_EXHAUSTED' });
});

test('a block that is lost names its connections, and comes back without giving their addresses twice', () => {
  const book = bookAt({ now: 0 });
  book.addBlock(V4);
  const first = assign(book, 'a');
  assert.deepEqual(book.removeBlock(V4), [first.connectionId]);
  book.addBlock(V4);
  assert.notEqual(only(assign(book, 'b').addresses), only(first.addresses));
  assert.equal(only(book.release(first.connectionId).addresses), only(first.addresses));
});

test('addresses rest also while their block is lost, whether they were released before or after', () => {
  const clock = { now: 0 };
  const book = bookAt(clock);
  book.addBlock(V4);
  const before = assign(book, 'before');
  const after = assign(book, 'after');
  book.release(before.connectionId);
  clock.now += 10_000;
  book.removeBlock(V4);
  book.release(after.connectionId);
  clock.now += 10_000;
  book.addBlock(V4);
  const fresh = Array.from({ length: 4 }, (_, i) => only(assign(book, `other-${i}`).addresses));
  assert.ok(!fresh.includes(only(before.addresses)) && !fresh.includes(only(after.addresses)), fresh.join());
  assert.throws(() => assign(book, 'late'), { code: 'ADDRESSES_EXHAUSTED' });
  assert.equal(only(assign(book, 'after').addresses), only(after.addresses), 'its own last one at once');
  clock.now = ADDRESS_REST_MS;
  assert.equal(only(assign(book, 'late').addresses), only(before.addresses));
});

test('a block that may not be assigned from is not counted', () => {
  let allowed = true;
  const book = new AddressBook({ now: () => 0, mayAssign: () => allowed });
  book.addBlock(V4);
  assert.deepEqual(book.count(4), { total: 6n, free: 6n });
  allowed = false;
  assert.deepEqual(book.count(4), { total: 0n, free: 0n });
  assert.throws(() => assign(book, 'a'), { code: 'ADDRESSES_EXHAUSTED' });
});

test('no address is assigned twice, outside the blocks held, or to another client before it has rested', () => {
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.record({ do: fc.constant('assign' as const), client: fc.nat(9) }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('release' as const), n: fc.nat(20) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.nat(ADDRESS_REST_MS) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('add' as const, 'remove' as const), next: fc.boolean() }) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const clock = { now: 0 };
      const book = bookAt(clock);
      const held = new Set<ShardBlock>();
      const open = new Map<string, { client: string; address: string }>();
      const released = new Map<string, { client: string; at: number; block: ShardBlock }>();
      for (const s of steps) {
        if (s.do === 'wait') clock.now += s.ms;
        else if (s.do === 'add') {
          const block = s.next ? V4_NEXT : V4;
          held.add(block);
          book.addBlock(block);
        } else if (s.do === 'remove') {
          const block = s.next ? V4_NEXT : V4;
          held.delete(block);
          for (const id of book.removeBlock(block)) {
            book.release(id);
            open.delete(id);
          }
          for (const [text, entry] of released) if (entry.block === block) released.delete(text);
        } else if (s.do === 'release') {
          const id = [...open.keys()][s.n % Math.max(1, open.size)];
          if (id === undefined) continue;
          const { client, address } = open.get(id)!;
          const [entry] = book.release(id).addresses;
          assert.equal(formatAddress(entry!.address), address);
          const block = [V4, V4_NEXT].find((candidate) => prefixContains(candidate.block, entry!.address))!;
          released.set(address, { client, at: clock.now, block });
          open.delete(id);
        } else if (s.do === 'assign') {
          const client = `client-${s.client}`;
          try {
            const { connectionId, addresses } = assign(book, client);
            const { address } = addresses[0]!;
            const text = formatAddress(address);
            const block = [...held].find((candidate) => prefixContains(candidate.block, address));
            assert.ok(block !== undefined && isAssignable(block, address), `${text} is not in a held block`);
            assert.ok(![...open.values()].some((other) => other.address === text), `${text} is assigned twice`);
            const last = released.get(text);
            assert.ok(
              !last || last.client === client || clock.now - last.at >= ADDRESS_REST_MS,
              `${text} has not rested`,
            );
            open.set(connectionId, { client, address: text });
          } catch (error) {
            if ((error as { code?: string }).code !== 'ADDRESSES_EXHAUSTED') throw error;
            assert.equal(book.count(4).free, 0n);
          }
        }
      }
    }),
    { numRuns: 300 },
  );
});

test('each shard hands out addresses of its own blocks, and a client gets its last one of that shard back', () => {
  const book = bookAt({ now: 0 });
  book.addBlock(V4);
  book.addBlock({ ...V4_NEXT, shard: 1 });
  const first = assign(book, 'a', [4], 0);
  const second = assign(book, 'a', [4], 1);
  assert.deepEqual([only(first.addresses), only(second.addresses)], ['10.99.0.2', '10.99.0.9']);
  for (const { connectionId } of [first, second]) book.release(connectionId);
  assert.equal(only(assign(book, 'a', [4], 1).addresses), '10.99.0.9');
  assert.equal(only(assign(book, 'a', [4], 0).addresses), '10.99.0.2');
  for (let i = 0; i < 5; i++) assign(book, `other-${i}`, [4], 0);
  assert.throws(() => assign(book, 'late', [4], 0), { code: 'ADDRESSES_EXHAUSTED' });
  assert.deepEqual([book.count(4, 0).free, book.count(4, 1).free, book.count(4).free], [0n, 6n, 6n]);
  assert.throws(() => assign(book, 'nowhere', [4], 2), { code: 'ADDRESSES_EXHAUSTED' });
});

test('where a client left last is known, while its address waits for it there', () => {
  const clock = { now: 0 };
  const book = bookAt(clock);
  book.addBlock({ ...V4_NEXT, shard: 1 });
  book.addBlock(V4);
  assert.equal(book.lastShardOf('a', DEFAULT_POOL), undefined);
  const [first, second] = [0, 1].map((shard) => assign(book, 'a', [4], shard));
  assert.equal(book.lastShardOf('a', DEFAULT_POOL), undefined, 'it is there still');
  book.release(second!.connectionId);
  clock.now += 1;
  book.release(first!.connectionId);
  assert.equal(book.lastShardOf('a', DEFAULT_POOL), 0);
  assert.equal(book.lastShardOf('b', DEFAULT_POOL), undefined);
  assign(book, 'a', [4], 0);
  assert.equal(book.lastShardOf('a', DEFAULT_POOL), 1);
  book.removeBlock(V4_NEXT);
  assert.equal(book.lastShardOf('a', DEFAULT_POOL), undefined);
});

test('a block that moves to another shard takes the memory of its clients and their rest along', () => {
  const book = bookAt({ now: 0 });
  book.addBlock(V4);
  const before = assign(book, 'a');
  assert.equal(book.isIdle(V4), false);
  book.release(before.connectionId);
  assert.equal(book.isIdle(V4), true);
  assert.deepEqual(book.removeBlock(V4), []);
  book.addBlock({ ...V4, shard: 1 });
  assert.notEqual(only(assign(book, 'b', [4], 1).addresses), only(before.addresses));
  assert.equal(only(assign(book, 'a', [4], 1).addresses), only(before.addresses));
  assert.throws(() => assign(book, 'c', [4], 0), { code: 'ADDRESSES_EXHAUSTED' });
});

test('whatever shards do and wherever blocks go, no address is held twice, outside of its shard, or before it has rested', () => {
  const BLOCKS = [0, 8, 16, 24].map((n) => ({ ...V4, block: parsePrefix(`10.99.0.${n}/29`) }));
  const step = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ do: fc.constant('assign' as const), client: fc.nat(9), shard: fc.nat(2) }),
    },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('release' as const), n: fc.nat(20) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.nat(ADDRESS_REST_MS) }) },
    {
      weight: 3,
      arbitrary: fc.record({
        do: fc.constantFrom('give' as const, 'lose' as const),
        block: fc.nat(3),
        shard: fc.nat(2),
      }),
    },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const clock = { now: 0 };
      const book = bookAt(clock);
      const shardOf = new Map<number, number>();
      const open = new Map<string, { client: string; address: string }>();
      const released = new Map<string, { client: string; at: number }>();
      const release = (id: string) => {
        const held = open.get(id);
        assert.ok(held !== undefined);
        assert.equal(only(book.release(id).addresses), held.address);
        open.delete(id);
        released.set(held.address, { client: held.client, at: clock.now });
      };
      for (const s of steps) {
        if (s.do === 'wait') clock.now += s.ms;
        else if (s.do === 'release') {
          const id = [...open.keys()][s.n % Math.max(1, open.size)];
          if (id !== undefined) release(id);
        } else if (s.do === 'give' || s.do === 'lose') {
          const poolBlock = BLOCKS[s.block]!;
          const from = shardOf.get(s.block);
          // A move is for blocks in which nobody has an address; a lease that ends asks nobody.
          if (from !== undefined && s.do === 'give' && !book.isIdle(poolBlock)) continue;
          if (from !== undefined) for (const id of book.removeBlock(poolBlock)) release(id);
          shardOf.delete(s.block);
          if (s.do === 'lose') continue;
          book.addBlock({ ...poolBlock, shard: s.shard });
          shardOf.set(s.block, s.shard);
        } else if (s.do === 'assign') {
          const client = `client-${s.client}`;
          try {
            const { connectionId, addresses } = assign(book, client, [4], s.shard);
            const { address } = addresses[0]!;
            const text = formatAddress(address);
            const block = BLOCKS.findIndex((candidate) => prefixContains(candidate.block, address));
            assert.equal(shardOf.get(block), s.shard, `${text} is of another shard`);
            assert.ok(![...open.values()].some((other) => other.address === text), `${text} is held twice`);
            const last = released.get(text);
            assert.ok(
              !last || last.client === client || clock.now - last.at >= ADDRESS_REST_MS,
              `${text} has not rested`,
            );
            open.set(connectionId, { client, address: text });
          } catch (error) {
            if ((error as { code?: string }).code !== 'ADDRESSES_EXHAUSTED') throw error;
            assert.equal(book.count(4, s.shard).free, 0n);
          }
        }
      }
    }),
    { numRuns: 300 },
  );
});
