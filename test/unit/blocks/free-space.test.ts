import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bestFit, freeSpace, sizeOf } from '../../../control-plane/blocks/free-space.ts';
import {
  formatPrefix,
  type IpPrefix,
  parsePrefix,
  prefixAround,
  prefixCovers,
  prefixesOverlap,
} from '../../../shared/ip/prefix.ts';

const free = (space: string[], taken: string[]) =>
  freeSpace(space.map(parsePrefix), taken.map(parsePrefix)).map(formatPrefix);

test('what is free comes in the fewest prefixes, in order', () => {
  assert.deepEqual(free(['10.99.0.0/24'], []), ['10.99.0.0/24']);
  assert.deepEqual(free(['10.99.0.0/24'], ['10.99.0.64/26']), ['10.99.0.0/26', '10.99.0.128/25']);
  assert.deepEqual(free(['10.99.0.0/30', '10.98.0.0/30'], ['10.99.0.1/32']), [
    '10.99.0.0/32',
    '10.99.0.2/31',
    '10.98.0.0/30',
  ]);
  assert.deepEqual(free(['10.99.0.0/24'], ['10.0.0.0/8']), []);
  assert.deepEqual(free(['10.99.0.0/24'], ['10.99.0.0/25', '10.99.0.0/28', '10.99.0.192/26']), ['10.99.0.128/26']);
  assert.deepEqual(free(['fd00:99::/120', '10.99.0.0/31'], ['fd00:99::80/121', '10.99.0.0/32']), [
    'fd00:99::/121',
    '10.99.0.1/32',
  ]);
});

test('the smallest place with room is cut, so that larger ones stay whole', () => {
  const room = ['10.99.0.0/24', '10.98.0.0/28', '10.97.0.0/27'].map(parsePrefix);
  assert.equal(formatPrefix(bestFit(room, 28)!), '10.98.0.0/28');
  assert.equal(formatPrefix(bestFit(room, 30)!), '10.98.0.0/30');
  assert.equal(formatPrefix(bestFit(room, 27)!), '10.97.0.0/27');
  assert.equal(formatPrefix(bestFit(room, 25)!), '10.99.0.0/25');
  assert.equal(bestFit(room, 23), undefined);
});

test('free and taken never overlap, and together they are all', () => {
  const space = parsePrefix('10.99.0.0/24');
  const part = fc
    .tuple(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 24, max: 32 }))
    .map(([offset, length]) => prefixAround(parsePrefix(`10.99.0.${offset}/32`), length));
  fc.assert(
    fc.property(fc.array(part, { maxLength: 12 }), (taken) => {
      const left = freeSpace([space], taken);
      for (const one of left)
        assert.ok(prefixCovers(space, one) && !taken.some((other) => prefixesOverlap(one, other)));
      // Each of what is taken once: the parts of others do not count.
      const distinct = [...new Map(taken.map((prefix) => [formatPrefix(prefix), prefix])).values()];
      const isPart = (prefix: IpPrefix) => distinct.some((other) => other !== prefix && prefixCovers(other, prefix));
      assert.equal(sizeOf(left) + sizeOf(distinct.filter((prefix) => !isPart(prefix))), 256n);
    }),
  );
});
