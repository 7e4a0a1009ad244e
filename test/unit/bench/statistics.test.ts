import assert from 'node:assert/strict';
import { test } from 'node:test';
import { median, percentile } from '../../../bench/statistics.ts';

test('the median is the value in the middle, or the mean of two', () => {
  assert.equal(median([]), undefined);
  assert.equal(median([7]), 7);
  assert.equal(median([9, 1, 10]), 9);
  assert.equal(median([4, 1, 3, 2]), 2.5);
});

test('percentiles are values that were measured, by nearest rank', () => {
  const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
  assert.equal(percentile(hundred, 50), 50);
  assert.equal(percentile(hundred, 99), 99);
  assert.equal(percentile(hundred, 100), 100);
  assert.equal(percentile([3, 1, 2], 99), 3);
  assert.equal(percentile([3], 1), 3);
  assert.equal(percentile([], 50), undefined);
});
