import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeValue } from '../../../shared/describe-value.ts';

test('text is quoted and cut, other values are shown as they are, and nothing that is inside of one', () => {
  for (const [value, shown] of [
    [undefined, 'nothing'],
    [null, 'null'],
    [7, '7'],
    [false, 'false'],
    ['', '""'],
    ['a"b\n', '"a\\"b\\n"'],
    ['x'.repeat(100), `"${'x'.repeat(100)}"`],
    ['x'.repeat(101), `"${'x'.repeat(100)}…"`],
    [['secret'], 'a list of 1'],
    [{ token: 'secret' }, 'an object'],
  ] as const) {
    assert.equal(describeValue(value), shown);
  }
});
