import assert from 'node:assert/strict';
import { test } from 'node:test';
import { remember } from '../../../shared/ip/remember.ts';

test('what was asked lately is answered again without work, and so many texts are remembered at most', () => {
  const asked: string[] = [];
  const length = remember((text) => {
    asked.push(text);
    return text.length;
  }, 2);
  assert.deepEqual(['a', 'bb', 'a', 'bb'].map(length), [1, 2, 1, 2]);
  assert.deepEqual(asked, ['a', 'bb']);
  assert.deepEqual(['ccc', 'a', 'ccc'].map(length), [3, 1, 3]);
  assert.deepEqual(asked, ['a', 'bb', 'ccc', 'a']);
});

test('a long text, as strangers can send, takes no memory', () => {
  let asked = 0;
  const length = remember((text) => {
    asked += 1;
    return text.length;
  }, 2);
  const long = '0'.repeat(65);
  assert.deepEqual([length(long), length(long), asked], [65, 65, 2]);
});

test('an error comes each time', () => {
  const fail = remember((text): string => {
    throw new Error(text);
  }, 2);
  assert.throws(() => fail('one'), /one/);
  assert.throws(() => fail('one'), /one/);
});
