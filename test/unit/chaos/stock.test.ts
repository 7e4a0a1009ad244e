import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkGrowth, growthOf, type NodeStock, some } from '../../chaos/stock.ts';

const BEFORE: NodeStock = { events: 10, connections: 1, bytesIn: 100, bytesOut: 1_000 };
const AFTER: NodeStock = { events: 30, connections: 3, bytesIn: 150, bytesOut: 4_000 };
const GROWN: NodeStock = { events: 20, connections: 2, bytesIn: 50, bytesOut: 3_000 };

test('growth is what has come since, of a new node all that it has', () => {
  const before = new Map([
    ['node-a', BEFORE],
    ['sim-1', { ...BEFORE, accepted: 11 }],
  ]);
  const after = new Map([
    ['node-a', AFTER],
    ['sim-1', { ...AFTER, accepted: 31 }],
    ['sim-2', { ...AFTER, accepted: 5 }],
  ]);
  assert.deepEqual(
    growthOf(before, after),
    new Map([
      ['node-a', GROWN],
      ['sim-1', { ...GROWN, accepted: 20 }],
      ['sim-2', { ...AFTER, accepted: 5 }],
    ]),
  );
});

test('all is well where every node has more of everything', () => {
  const [check, ...others] = checkGrowth(
    new Map([
      ['node-a', GROWN],
      ['sim-1', { ...GROWN, accepted: 1 }],
    ]),
  );
  assert.deepEqual([check?.ok, check?.actual, others], [true, [], []]);
});

test('what a node has no more of, or less, is named', () => {
  const growth = new Map([
    ['node-a', { ...GROWN, bytesIn: 0 }],
    ['node-b', GROWN],
    ['sim-1', { events: 0, connections: -1, bytesIn: 1, bytesOut: 1, accepted: 0 }],
  ]);
  const [check] = checkGrowth(growth);
  assert.equal(check?.ok, false);
  assert.deepEqual(check?.actual, [
    'node-a: no bytesIn',
    'sim-1: no events',
    'sim-1: no connections',
    'sim-1: no accepted',
  ]);
});

test('a node of which nothing was found at all is named with everything', () => {
  const nothing = { events: 0, connections: 0, bytesIn: 0, bytesOut: 0 };
  const [check] = checkGrowth(growthOf(new Map(), new Map([['node-a', nothing]])));
  assert.deepEqual(
    check?.actual,
    ['events', 'connections', 'bytesIn', 'bytesOut'].map((name) => `node-a: no ${name}`),
  );
});

test('something has to be there', () => {
  assert.deepEqual(some('faults', 1), { name: 'faults', ok: true, expected: 'at least 1', actual: 1 });
  assert.equal(some('faults', 0).ok, false);
});
