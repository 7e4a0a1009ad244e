import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BlockLeases, needsMore } from '../../../data-plane/address/block-leases.ts';
import type { ShardBlock } from '../../../data-plane/address/shard-block.ts';
import { DEFAULT_POOL } from '../../../shared/ip/block.ts';
import { parsePrefix } from '../../../shared/ip/prefix.ts';

const HOUR = 3_600_000;
const BLOCK: ShardBlock = {
  shard: 1,
  poolName: DEFAULT_POOL,
  pool: parsePrefix('10.99.0.0/16'),
  block: parsePrefix('10.99.1.0/26'),
};

const FOUR = { pool: DEFAULT_POOL, family: 4 } as const;
const SIX = { pool: DEFAULT_POOL, family: 6 } as const;

function leased(): BlockLeases {
  const leases = new BlockLeases();
  leases.leased(BLOCK, HOUR, 0);
  return leases;
}

test('a lease counts from the moment its request was sent, and its last minute takes no assignments', () => {
  const leases = leased();
  assert.equal(leases.isAssignable(BLOCK.block, HOUR - 60_001), true);
  assert.equal(leases.isAssignable(BLOCK.block, HOUR - 60_000), false);
  assert.equal(leases.held(HOUR - 1).length, 1);
  assert.equal(leases.held(HOUR).length, 0);
});

test('a lease is renewed after five minutes, and 12 times in a short one', () => {
  const leases = leased();
  assert.deepEqual(leases.dueForRenewal(299_999), []);
  assert.deepEqual(leases.dueForRenewal(300_000), ['10.99.1.0/26']);
  leases.leased({ ...BLOCK, shard: 0 }, 12_000, 300_000);
  assert.deepEqual(leases.dueForRenewal(300_999), []);
  assert.deepEqual(leases.dueForRenewal(301_000), ['10.99.1.0/26']);
});

test('a renewal that fails is tried again after 1 s, then less often, and at once when NATS is back', () => {
  const leases = leased();
  let now = 300_000;
  const waits: number[] = [];
  for (let i = 0; i < 5; i++) {
    leases.renewalFailed(now);
    const from = now;
    while (leases.dueForRenewal(now).length === 0) now += 500;
    waits.push(now - from);
  }
  assert.deepEqual(waits, [1_000, 2_000, 4_000, 5_000, 5_000]);
  leases.renewalFailed(now);
  leases.reachable();
  assert.equal(leases.dueForRenewal(now).length, 1);
});

test('a block stays with its shard when it is renewed, until it moves', () => {
  const leases = leased();
  leases.leased({ ...BLOCK, shard: 0 }, HOUR, 10);
  assert.equal(leases.held(11)[0]?.shard, 1);
  assert.equal(leases.move('10.99.1.0/26', 2)?.endsAt, 10 + HOUR);
  assert.equal(leases.held(11)[0]?.shard, 2);
  assert.equal(leases.move('10.99.2.0/26', 2), undefined);
});

test('a lease of another boot is not held, but asked for', () => {
  const leases = new BlockLeases();
  leases.restored(BLOCK, HOUR, undefined);
  assert.deepEqual(leases.held(0), []);
  assert.deepEqual(leases.dueForRenewal(0), ['10.99.1.0/26']);
  leases.leased({ ...BLOCK, shard: 0 }, HOUR, 5);
  assert.equal(leases.held(6).length, 1);
});

test('an ended lease is asked for again until the control plane says it is lost', () => {
  const leases = leased();
  assert.equal(leases.dueForRenewal(HOUR + 1).length, 1);
  assert.deepEqual(leases.lost('10.99.1.0/26'), BLOCK);
  assert.deepEqual(leases.all(), []);
});

test('a missing pool is asked for rarely, also after a reconnect', () => {
  const leases = new BlockLeases();
  leases.acquireFailed(SIX, 'no_pool', 'there is none', 0);
  leases.acquireFailed(FOUR, 'unavailable', 'silence', 0);
  leases.reachable();
  assert.equal(leases.mayAcquire(FOUR, 0), true);
  assert.equal(leases.mayAcquire(SIX, 59_999), false);
  assert.equal(leases.mayAcquire(SIX, 60_000), true);
});

test('more is needed when less than a quarter is free', () => {
  assert.equal(needsMore({ total: 0n, free: 0n }), true);
  assert.equal(needsMore({ total: 100n, free: 25n }), false);
  assert.equal(needsMore({ total: 100n, free: 24n }), true);
});
