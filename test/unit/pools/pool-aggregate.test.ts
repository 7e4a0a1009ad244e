import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import {
  decidePool,
  evolvePool,
  newPool,
  type PoolAggregate,
  type PoolCommand,
  type PoolLayout,
} from '../../../control-plane/pools/pool-aggregate.ts';
import { ADDRESS_REST_MS } from '../../../shared/ip/block.ts';
import { parsePrefix } from '../../../shared/ip/prefix.ts';

const T0 = Date.parse('2026-01-01T00:00:00.000Z');
const actor = 'ada';
const layout = (...prefixes: string[]): PoolLayout => ({
  prefixes: prefixes.map(parsePrefix),
  blockLength: { 4: 26, 6: 120 },
});

/** The pool after the commands, each decided on what the ones before left. */
function after(pool: PoolAggregate, ...commands: PoolCommand[]): PoolAggregate {
  return commands.reduce((current, command) => {
    const event = decidePool(current, command);
    return event === undefined ? current : evolvePool(current, event);
  }, pool);
}
const add = (prefixes: string[], others: PoolAggregate[] = [], now = T0): PoolCommand => ({
  type: 'add',
  layout: layout(...prefixes),
  others,
  actor,
  now,
});
const retire = (closeTunnels = false, now = T0): PoolCommand => ({ type: 'retire', closeTunnels, actor, now });
const finish = (now = T0): PoolCommand => ({ type: 'finish', actor: 'control-plane', now });
const office = after(newPool('office'), add(['10.98.0.0/16', 'fd00:98::/64']));

suite('pools', () => {
  test('a pool is added, retires, and is retired when nobody holds a part of it', () => {
    assert.deepEqual([office.version, office.state], [1, { status: 'active' }]);
    const retiring = after(office, retire(false, T0 + 1));
    assert.deepEqual(
      [retiring.version, retiring.state],
      [2, { status: 'retiring', since: T0 + 1, closeTunnels: false }],
    );
    const retired = after(retiring, finish(T0 + 2));
    assert.deepEqual([retired.version, retired.state], [3, { status: 'retired', since: T0 + 2 }]);
  });

  test('what is done already changes nothing; that its tunnels are to be closed can be said later', () => {
    assert.equal(decidePool(office, finish()), undefined);
    const retiring = after(office, retire());
    assert.equal(decidePool(retiring, retire()), undefined);
    const closing = after(retiring, retire(true, T0 + 5));
    assert.deepEqual(closing.state, { status: 'retiring', since: T0, closeTunnels: true });
    assert.equal(decidePool(closing, retire(true)), undefined);
    assert.equal(decidePool(closing, retire(false)), undefined);
    assert.equal(decidePool(after(closing, finish()), retire()), undefined);
  });

  test('a name is taken while its pool is there', () => {
    assert.throws(() => decidePool(office, add(['10.97.0.0/16'])), {
      code: 'POOL_EXISTS',
      message: 'pool "office" is there already',
    });
    assert.throws(() => decidePool(after(office, retire()), add(['10.97.0.0/16'])), {
      code: 'POOL_RETIRING',
      message: 'pool "office" is retiring still',
    });
    assert.throws(() => decidePool(newPool('lab'), retire()), {
      code: 'POOL_UNKNOWN',
      message: 'pool "lab" does not exist',
    });
  });

  test('an overlap is refused and names both prefixes, with pools that retire too', () => {
    for (const other of [office, after(office, retire())]) {
      assert.throws(() => decidePool(newPool('lab'), add(['10.98.4.0/24'], [other])), {
        code: 'POOL_OVERLAPS',
        message: 'pool "lab" has 10.98.4.0/24, which overlaps 10.98.0.0/16 of pool "office"',
      });
      assert.throws(() => decidePool(newPool('lab'), add(['10.97.0.0/16', 'fd00::/16'], [other])), {
        message: 'pool "lab" has fd00::/16, which overlaps fd00:98::/64 of pool "office"',
      });
    }
  });

  test('the networks of a retired pool can be used again when they have rested, by the same name too', () => {
    const retired = after(office, retire(), finish());
    const early = T0 + ADDRESS_REST_MS - 1;
    assert.throws(() => decidePool(newPool('lab'), add(['10.98.4.0/24'], [retired], early)), {
      code: 'POOL_OVERLAPS',
      message:
        'pool "lab" has 10.98.4.0/24, which overlaps 10.98.0.0/16 of pool "office", which was retired less than a minute ago',
    });
    assert.throws(() => decidePool(retired, add(['10.98.4.0/24'], [], early)), { code: 'POOL_OVERLAPS' });
    assert.equal(after(newPool('lab'), add(['10.98.4.0/24'], [retired], early + 1)).version, 1);
    assert.deepEqual(after(retired, add(['10.98.4.0/24'], [], early + 1)).state, { status: 'active' });
  });

  test('the pool of the configuration grows and shrinks, over itself but over no other', () => {
    const configure = (prefixes: string[], others: PoolAggregate[] = []): PoolCommand => ({
      type: 'configure',
      layout: layout(...prefixes),
      others,
      actor: 'configuration',
      now: T0,
    });
    const first = after(newPool('default'), configure(['10.99.0.0/24']));
    assert.equal(decidePool(first, configure(['10.99.0.0/24'])), undefined);
    const event = decidePool(first, configure(['10.99.0.0/16', 'fd00:99::/64']));
    assert.deepEqual(event, {
      type: 'pool.changed',
      at: '2026-01-01T00:00:00.000Z',
      data: {
        name: 'default',
        prefixes: ['10.99.0.0/16', 'fd00:99::/64'],
        blockPrefixV4: 26,
        blockPrefixV6: 120,
        actor: 'configuration',
      },
    });
    assert.throws(() => decidePool(first, configure(['10.98.0.0/15'], [office])), {
      code: 'POOL_OVERLAPS',
      message: 'pool "default" has 10.98.0.0/15, which overlaps 10.98.0.0/16 of pool "office"',
    });
  });
});
