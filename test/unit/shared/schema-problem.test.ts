import assert from 'node:assert/strict';
import { test } from 'node:test';
import Type from 'typebox';
import { Compile } from 'typebox/compile';
import { nullable, record } from '../../../shared/events/event-schema.ts';
import { schemaProblem } from '../../../shared/schema-problem.ts';

const validator = Compile(
  record({
    count: Type.Integer(),
    inner: Type.Optional(record({ 'a/b': record({ x: Type.String() }) })),
    either: Type.Optional(nullable(record({ y: Type.Number() }))),
    list: Type.Optional(Type.Array(record({ z: Type.Number() }))),
    free: Type.Optional(Type.Record(Type.String(), Type.Number())),
  }),
);

test('an unknown field is named, with those that are known where it stands', () => {
  for (const [value, problem] of [
    [{ count: 1, counts: 2 }, '/counts is an unknown field, known are count, inner, either, list, free'],
    [{ count: 1, inner: { 'a/b': { x: '', w: 1 } } }, '/inner/a~1b/w is an unknown field, known are x'],
    [{ count: 1, list: [{ z: 1 }, { z: 1, w: 1 }] }, '/list/1/w is an unknown field, known are z'],
  ] as const) {
    assert.equal(schemaProblem(validator, value), problem);
  }
});

test('a long name of an unknown field is cut', () => {
  const problem = schemaProblem(validator, { count: 1, ['x'.repeat(10_000)]: 1 });
  assert.match(problem, /^\/x{99}… is an unknown field, known are count/);
});

test('what lacks and what is of another kind is said with its path', () => {
  for (const [value, problem] of [
    [{}, '(root) must have required properties count'],
    [{ count: 1.5 }, '/count must be integer'],
    [{ count: 1, free: { a: 'b' } }, '/free/a must be number'],
    [7, '(root) must be object'],
  ] as const) {
    assert.equal(schemaProblem(validator, value), problem);
  }
});

test('of variants that a field tells apart, the one that was meant says what is wrong', () => {
  const message = Compile(
    Type.Union([
      record({ op: Type.Literal('take'), family: Type.Union([Type.Literal(4), Type.Literal(6)]) }),
      record({ op: Type.Literal('give'), blocks: Type.Array(Type.String()) }),
    ]),
  );
  for (const [value, problem] of [
    [{ op: 'give', blocks: [], x: 1 }, '/x is an unknown field, known are op, blocks'],
    [{ op: 'give', blocks: [7] }, '/blocks/0 must be string'],
    [{ op: 'give' }, '(root) must have required properties blocks'],
    [{ op: 'take', family: 5 }, '/family must be one of 4, 6'],
    [{ op: 'keep', blocks: [] }, '/op must be one of take, give'],
    [{ blocks: [] }, '/op must be one of take, give'],
    [null, '(root) must be object'],
  ] as const) {
    assert.equal(schemaProblem(message, value), problem);
  }
});
