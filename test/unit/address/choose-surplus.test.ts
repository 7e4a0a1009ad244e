import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { needsMore } from '../../../data-plane/address/block-leases.ts';
import { type BlockUse, chooseSurplus } from '../../../data-plane/address/choose-surplus.ts';
import { assignableCount, DEFAULT_POOL } from '../../../shared/ip/block.ts';
import { formatPrefix, parsePrefix } from '../../../shared/ip/prefix.ts';

const pool = parsePrefix('10.99.0.0/16');
/** Blocks of 61 addresses for clients each, as full as said. */
const blocks = (...used: number[]): BlockUse[] =>
  used.map((count, i) => ({
    held: { pool, poolName: DEFAULT_POOL, block: parsePrefix(`10.99.${i + 1}.0/26`), shard: 0 },
    used: BigInt(count),
  }));
const chosen = (uses: BlockUse[], mayGoWithout = false) => {
  const surplus = chooseSurplus(uses, mayGoWithout);
  return surplus && formatPrefix(surplus.block);
};

test('the emptiest block goes while half of the others is free, what is in it counted', () => {
  assert.equal(chosen(blocks(10, 5)), '10.99.2.0/26');
  assert.equal(chosen(blocks(21, 10)), '10.99.2.0/26');
  assert.equal(chosen(blocks(22, 10)), undefined);
  assert.equal(chosen(blocks(0, 20, 0)), '10.99.3.0/26', 'of equally empty ones the last');
});

test('the only block stays, but where the node may go without and nobody uses it', () => {
  assert.equal(chosen(blocks(0)), undefined);
  assert.equal(chosen(blocks(0), true), '10.99.1.0/26');
  assert.equal(chosen(blocks(1), true), undefined);
  assert.equal(chosen([], true), undefined);
});

test('without what goes there is no need for more, so no block goes to and fro', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 61 }), { minLength: 2, maxLength: 6 }), (used) => {
      const uses = blocks(...used);
      const surplus = chooseSurplus(uses, false);
      if (surplus === undefined) return;
      const total = uses
        .filter(({ held }) => held !== surplus)
        .reduce((sum, { held }) => sum + assignableCount(held), 0n);
      const all = uses.reduce((sum, one) => sum + one.used, 0n);
      assert.equal(needsMore({ total, free: total - all }), false);
    }),
  );
});
