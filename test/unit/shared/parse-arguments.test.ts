import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { FLAG, parseArguments } from '../../../shared/config/parse-arguments.ts';
import { integer, text } from '../../../shared/config/parse-config.ts';

const options = {
  limit: integer(-5, 10),
  key: { ...text('lower-case letters', /^[a-z]+$/), secret: true },
  json: FLAG,
} as const;

suite('parseArguments', () => {
  test('gives values as their options read them, undefined and false where they are not given', () => {
    assert.deepEqual(parseArguments([], options)?.values, { limit: undefined, key: undefined, json: false });
    const given = parseArguments(['--limit', '3', '--json', '--key=abc', '--limit=4'], options);
    assert.deepEqual(given, { values: { limit: 4, key: 'abc', json: true }, words: [] });
    assert.equal(parseArguments(['--limit', '-5'], options)?.values.limit, -5);
  });

  test('gives words where they are taken, all of what is behind -- too', () => {
    const given = parseArguments(['list', '--json', '7', '--', '--limit'], options, 'taken');
    assert.deepEqual(given?.words, ['list', '7', '--limit']);
  });

  test('is undefined where help is asked for, whatever else is wrong', () => {
    for (const help of ['--help', '-h']) assert.equal(parseArguments(['--bogus', help], options), undefined);
  });

  test('names what is wrong, what it was, and what is allowed', () => {
    const known = '--limit, --key, --json, --help';
    for (const [args, message] of [
      [['--bogus'], `arguments: got "--bogus", expected one of ${known}`],
      [['--bogus=sesame'], `arguments: got "--bogus", expected one of ${known}`],
      [['--no-json'], `arguments: got "--no-json", expected one of ${known}`],
      [['--constructor', '1'], `arguments: got "--constructor", expected one of ${known}`],
      [['-x'], `arguments: got "-x", expected one of ${known}`],
      [['fast'], `arguments: got "fast", expected one of ${known}`],
      [['--limit', '11'], '--limit: got "11", expected a whole number from -5 to 10'],
      [['--limit', '11', '--limit', '1'], '--limit: got "11", expected a whole number from -5 to 10'],
      [['--limit'], '--limit: got nothing, expected a whole number from -5 to 10'],
      [['--limit='], '--limit: got "", expected a whole number from -5 to 10'],
      [['--limit', '--json'], '--limit: got nothing, expected a whole number from -5 to 10'],
      [['--json=yes'], '--json: got "yes", expected no value'],
      [['--key', 'SESAME'], '--key: got "(not shown)", expected lower-case letters'],
    ] as const) {
      assert.throws(() => parseArguments(args, options), { code: 'BAD_CONFIG', message });
    }
  });

  test('does not show a word that may be a secret', () => {
    const message = 'arguments: got "(not shown)", expected one of --json, --help';
    assert.throws(() => parseArguments(['sesame'], { json: FLAG }, 'secret'), { message });
  });
});
