import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AddressMemory } from '../../../control-plane/projections/address-memory.ts';
import type { Assignment } from '../../../control-plane/projections/assignment-state.ts';

const ADDRESS = '10.0.0.1';

/** Positions are as times, so that each assignment tells itself from the others. */
const held = (from: number, until: number | null, block = '10.0.0.0/24'): Assignment => ({
  address: ADDRESS,
  pool: '10.0.0.0/16',
  block,
  clientId: 'ada',
  node: 'node-a',
  connectionId: `connection-${from}`,
  from,
  until,
  endReason: until === null ? null : 'client',
  assignedPosition: from,
  endedPosition: until,
});

test('an address that was named is known from the time on that was asked for, not from an earlier one', () => {
  const memory = new AddressMemory();
  assert.equal(memory.find(ADDRESS, 100), undefined);
  memory.remember(ADDRESS, 100, [held(120, null)]);
  assert.deepEqual(memory.find(ADDRESS, 100)?.assignments, [held(120, null)]);
  assert.deepEqual(memory.find(ADDRESS, 101)?.assignments, [held(120, null)]);
  assert.equal(memory.find(ADDRESS, 99), undefined);
});

test('of ended assignments the latest are kept, and what ended before them has to be read again', () => {
  const memory = new AddressMemory();
  const all = [held(50, 60), held(10, 20), held(30, 40), held(70, null)];
  memory.remember(ADDRESS, 0, all);
  assert.equal(memory.find(ADDRESS, 19), undefined);
  assert.deepEqual(memory.find(ADDRESS, 20)?.assignments, [held(50, 60), held(30, 40), held(70, null)]);
});

test('a block that someone else ended is forgotten with all its addresses, others are not', () => {
  const memory = new AddressMemory();
  memory.remember(ADDRESS, 0, [held(10, null)]);
  memory.remember('10.0.1.1', 0, [{ ...held(10, null, '10.0.1.0/24'), address: '10.0.1.1' }]);
  memory.forgetBlock('node-b', '10.0.0.0/24');
  assert.ok(memory.find(ADDRESS, 0));
  memory.forgetBlock('node-a', '10.0.0.0/24');
  assert.equal(memory.find(ADDRESS, 0), undefined);
  assert.ok(memory.find('10.0.1.1', 0));
});

test('of more addresses than there is room for, those that were not named for longest go', () => {
  const memory = new AddressMemory(2);
  for (const address of ['a', 'b', 'a', 'c']) memory.remember(address, 0, []);
  assert.deepEqual(
    ['a', 'b', 'c'].map((address) => memory.find(address, 0) !== undefined),
    [true, false, true],
  );
});
