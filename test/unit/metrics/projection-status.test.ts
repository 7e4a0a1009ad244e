import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isStuck } from '../../../control-plane/metrics/projection-status.ts';

test('a projection is stuck where work waits and nothing is committed, not while it catches up', () => {
  assert.equal(isStuck({ lagSeconds: 120, idleSeconds: 120 }), true);
  assert.equal(isStuck({ lagSeconds: 3_600, idleSeconds: 0.2 }), false);
  assert.equal(isStuck({ lagSeconds: 0, idleSeconds: 3_600 }), false);
  assert.equal(isStuck({ lagSeconds: null, idleSeconds: 3_600 }), false);
});
