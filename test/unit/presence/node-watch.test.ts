import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NodeWatch } from '../../../control-plane/presence/node-watch.ts';
import { PRESENCE_TIMEOUT_MS } from '../../../shared/nats/messages.ts';

const NODES = ['node-a', 'node-b'];

test('a node is silent once nothing was heard of it for as long as the timeout', () => {
  const watch = new NodeWatch();
  watch.startListening(0);
  watch.hear('node-a', 1_000);
  assert.deepEqual(watch.silent(NODES, PRESENCE_TIMEOUT_MS - 1), []);
  assert.deepEqual(watch.silent(NODES, PRESENCE_TIMEOUT_MS), ['node-b'], 'never heard counts from the begin');
  assert.deepEqual(watch.silent(NODES, PRESENCE_TIMEOUT_MS + 1_000), NODES);
});

test('nobody is silent while we are cut off, and all timers start afresh afterwards', () => {
  const watch = new NodeWatch();
  assert.deepEqual(watch.silent(NODES, 1e9), [], 'it has never listened');
  watch.startListening(0);
  watch.stopListening();
  assert.equal(watch.isListening(), false);
  assert.deepEqual(watch.silent(NODES, 1e9), []);
  watch.startListening(1e9);
  assert.deepEqual(watch.silent(NODES, 1e9 + PRESENCE_TIMEOUT_MS - 1), []);
  assert.deepEqual(watch.silent(NODES, 1e9 + PRESENCE_TIMEOUT_MS), NODES);
});
