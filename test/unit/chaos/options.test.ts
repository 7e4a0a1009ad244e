import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseChaosCommand } from '../../chaos/options.ts';

const RANDOM = 7;
const parse = (...args: string[]) => parseChaosCommand(args, () => RANDOM);

test('the result is JSON whether that is asked for or not', () => {
  assert.deepEqual(parse(), { seconds: 120, seed: RANDOM, json: true });
  assert.deepEqual(parse('--json', '--seconds', '20', '--seed', '3'), { seconds: 20, seed: 3, json: true });
});
