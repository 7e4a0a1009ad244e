import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RequestQueue } from '../../../control-plane/blocks/request-queue.ts';

test('the newest requests come first, and each once', () => {
  const queue = new RequestQueue<string>(5_000);
  for (const [at, request] of ['a', 'b', 'c', 'd'].entries()) queue.add(request, at);
  assert.deepEqual(queue.take(3, 10), ['d', 'c', 'b']);
  queue.add('e', 20);
  assert.deepEqual(queue.take(3, 30), ['e', 'a']);
  assert.deepEqual(queue.take(3, 40), []);
});

test('a request that nobody waits for any more is dropped', () => {
  const queue = new RequestQueue<string>(5_000);
  queue.add('late', 0);
  queue.add('in time', 1);
  assert.deepEqual(queue.take(10, 5_000), ['in time']);
  queue.add('late', 6_000);
  assert.deepEqual(queue.take(10, 11_000), []);
});

test('when more come than can be answered, as many are answered in time as can be', () => {
  const queue = new RequestQueue<number>(5_000);
  const PER_SECOND = 100;
  const CAPACITY = 20;
  let answered = 0;
  for (let second = 0; second < 60; second++) {
    for (let i = 0; i < PER_SECOND; i++) queue.add(second, second * 1_000);
    const taken = queue.take(CAPACITY, second * 1_000 + 999);
    assert.ok(taken.every((askedIn) => askedIn === second));
    answered += taken.length;
  }
  assert.equal(answered, 60 * CAPACITY);
});
