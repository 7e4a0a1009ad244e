import assert from 'node:assert/strict';
import { test } from 'node:test';
import { together } from '../../../control-plane/storage/together.ts';

test('what is under way together has its results in its order', async () => {
  assert.deepEqual(await together([Promise.resolve(1), Promise.resolve('two'), 3]), [1, 'two', 3]);
});

test('the first error in time is thrown, after all have ended', async () => {
  const [slow, early, late] = [
    Promise.withResolvers<string>(),
    Promise.withResolvers<string>(),
    Promise.withResolvers<string>(),
  ];
  const ended: string[] = [];
  const all = together([late.promise, early.promise, slow.promise]).catch((error: Error) => ended.push(error.message));
  early.reject(new Error('the cause'));
  late.reject(new Error('what follows from it'));
  await new Promise(setImmediate);
  assert.deepEqual(ended, []);
  slow.resolve('done');
  await all;
  assert.deepEqual(ended, ['the cause']);
});
