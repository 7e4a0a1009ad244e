import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { dealBlocks } from '../../../data-plane/address/deal-blocks.ts';
import type { ShardBlock } from '../../../data-plane/address/shard-block.ts';
import { DEFAULT_POOL } from '../../../shared/ip/block.ts';
import { formatPrefix, parsePrefix } from '../../../shared/ip/prefix.ts';

const pool4 = parsePrefix('10.99.0.0/16');
const pool6 = parsePrefix('fd00:99::/64');
const v4 = (n: number, shard: number): ShardBlock => ({
  pool: pool4,
  poolName: DEFAULT_POOL,
  block: parsePrefix(`10.99.${n}.0/26`),
  shard,
});
const v6 = (n: number, shard: number): ShardBlock => ({
  pool: pool6,
  poolName: DEFAULT_POOL,
  block: parsePrefix(`fd00:99::${n}00/120`),
  shard,
});
const dealt = (blocks: ShardBlock[], shards: number) =>
  Object.fromEntries(dealBlocks(blocks, shards).map(({ block, shard }) => [formatPrefix(block), shard]));

test('with as many shards as before each keeps its blocks', () => {
  assert.deepEqual(dealt([v4(1, 1), v4(0, 0), v6(1, 0), v6(2, 1)], 2), {
    '10.99.0.0/26': 0,
    '10.99.1.0/26': 1,
    'fd00:99::100/120': 0,
    'fd00:99::200/120': 1,
  });
});

test('with fewer, the blocks of those that are no more go to the others', () => {
  assert.deepEqual(dealt([v4(0, 0), v4(1, 1), v4(2, 2), v4(3, 3)], 2), {
    '10.99.0.0/26': 0,
    '10.99.1.0/26': 1,
    '10.99.2.0/26': 0,
    '10.99.3.0/26': 1,
  });
});

test('with more, a shard without a block gets one that another can do without', () => {
  assert.deepEqual(dealt([v4(0, 0), v4(1, 0), v6(1, 0)], 2), {
    '10.99.0.0/26': 0,
    '10.99.1.0/26': 1,
    'fd00:99::100/120': 0,
  });
});

test('every block goes to one shard that is there, the same one each time, and none stays empty while another has two', () => {
  const blocks = fc.array(fc.nat(70), { maxLength: 20 }).map((owners) => owners.map((shard, n) => v4(n, shard)));
  fc.assert(
    fc.property(blocks, fc.integer({ min: 1, max: 8 }), (held, shards) => {
      const once = dealBlocks(held, shards);
      assert.deepEqual(
        once.map(({ block }) => formatPrefix(block)).sort(),
        held.map(({ block }) => formatPrefix(block)).sort(),
      );
      const sizes = Array.from({ length: shards }, (_, shard) => once.filter((b) => b.shard === shard).length);
      assert.equal(
        sizes.reduce((a, b) => a + b, 0),
        held.length,
      );
      assert.ok(Math.min(...sizes) > 0 || Math.max(...sizes) <= 1, sizes.join());
      assert.deepEqual(dealt(once, shards), dealt(held, shards));
    }),
  );
});
