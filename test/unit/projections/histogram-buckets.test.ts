import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bucketOf, HISTOGRAM_BOUNDS } from '../../../control-plane/projections/histogram-buckets.ts';

test('a bound belongs to its own bucket, what is above all of them to the last', () => {
  for (const bounds of Object.values(HISTOGRAM_BOUNDS)) {
    for (const [index, bound] of bounds.entries()) {
      assert.equal(bucketOf(bounds, bound), index);
      assert.equal(bucketOf(bounds, bound + 0.001), index + 1);
    }
    assert.equal(bucketOf(bounds, 0), 0);
    assert.ok(bounds.every((bound, index) => index === 0 || bound > bounds[index - 1]!));
  }
});
