import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backoff } from '../../../data-plane/client/backoff.ts';

test('waits double from a quarter of a second to five seconds, and start over after a reset', () => {
  const backoff = new Backoff();
  const longest = Array.from({ length: 8 }, () => backoff.next(1));
  assert.deepEqual(longest, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000, 5_000]);
  backoff.reset();
  assert.equal(backoff.next(1), 250);
});

test('jitter takes up to half away', () => {
  const backoff = new Backoff();
  assert.equal(backoff.next(0), 125);
  assert.equal(backoff.next(0), 250);
  assert.equal(backoff.next(0.5), 750);
});
