import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type EpochState,
  endOfRun,
  type Gap,
  NOTHING_PARKED,
  type Sequenced,
  sequence,
} from '../../../control-plane/projector/sequence.ts';

const event = (seq: number, epoch = 'a', node = 'node-a'): Sequenced => ({ node, epoch, seq, at: `t${seq}` });

/** As many parked events as nobody has. */
const MANY = 1_000;

/**
 * Applies batches one after the other, with what would be stored in between; given is only what can be released, `atOnce` of a
 * spool, and the rest of it in further steps.
 */
function run(batches: ReadonlyArray<readonly Sequenced[]>, atOnce = MANY) {
  const epochs = new Map<string, EpochState>();
  const parked = new Map<string, Sequenced>();
  const key = ({ node, epoch, seq }: Sequenced) => `${node}/${epoch}/${seq}`;
  const applied: string[] = [];
  const gaps: Gap[] = [];
  const step = (batch: readonly Sequenced[]): boolean => {
    const stored = [...parked.values()].sort((a, b) => a.seq - b.seq);
    const isReplaced = ({ node }: Sequenced) =>
      batch.some((one) => one.node === node && !epochs.has(`${node}/${one.epoch}`));
    const isReleasable = ({ node, epoch, seq }: Sequenced) => {
      const seqs = [...stored, ...batch]
        .filter((one) => one.node === node && one.epoch === epoch)
        .map((one) => one.seq);
      return seq <= endOfRun(epochs.get(`${node}/${epoch}`)?.appliedSeq ?? 0, new Set(seqs));
    };
    const loaded = [
      ...stored.filter(isReplaced),
      ...stored.filter((one) => !isReplaced(one) && isReleasable(one)).slice(0, atOnce),
    ];
    const absent = stored.filter((one) => !loaded.includes(one));
    const result = sequence([...epochs.values()], { ...NOTHING_PARKED, loaded, absent }, batch, MANY);
    for (const state of result.epochs) epochs.set(`${state.node}/${state.epoch}`, state);
    for (const one of result.unpark) assert.ok(parked.delete(key(one)), 'only what is stored is taken out');
    for (const one of result.park) {
      assert.ok(!parked.has(key(one)), 'nothing is stored twice');
      parked.set(key(one), one);
    }
    applied.push(...result.apply.map(key));
    gaps.push(...result.gaps);
    return result.isMoreReady;
  };
  for (const batch of batches) {
    let isMoreReady = step(batch);
    while (isMoreReady) isMoreReady = step([]);
  }
  return { applied, parked: [...parked.keys()], gaps, epochs: [...epochs.values()] };
}

test('any order, any repetition, any cut into batches: each event is applied once, in its order', () => {
  const order = fc.integer({ min: 1, max: 12 }).chain((count) => {
    const all = Array.from({ length: count }, (_, index) => index + 1);
    const repeated = fc.array(fc.constantFrom(...all), { maxLength: 12 });
    return fc.tuple(repeated, fc.shuffledSubarray(all, { minLength: count })).chain(([extra, shuffled]) => {
      return fc.tuple(
        fc.shuffledSubarray([...shuffled, ...extra], { minLength: count + extra.length }),
        fc.nat(5),
        fc.integer({ min: 1, max: 5 }),
      );
    });
  });
  fc.assert(
    fc.property(order, ([seqs, size, atOnce]) => {
      const batches: Sequenced[][] = [];
      for (let start = 0; start < seqs.length; start += size + 1) {
        batches.push(seqs.slice(start, start + size + 1).map((seq) => event(seq)));
      }
      const { applied, parked, gaps } = run(batches, atOnce);
      const count = Math.max(...seqs);
      assert.deepEqual(
        applied,
        Array.from({ length: count }, (_, index) => `node-a/a/${index + 1}`),
      );
      assert.deepEqual(parked, []);
      assert.deepEqual(gaps, []);
    }),
  );
});

test('every batch delivered twice applies what it applies once', () => {
  const batches = [[event(2), event(1)], [event(5), event(3)], [event(1, 'b')], [event(4)]];
  const twice = batches.flatMap((batch) => [batch, batch]);
  assert.deepEqual(run(twice), run(batches));
});

test('a new spool turns what the old one lacks into gaps, and releases what was parked behind them', () => {
  const { applied, parked, gaps, epochs } = run([[event(1), event(4), event(7)], [event(5)], [event(1, 'b')]]);
  assert.deepEqual(applied, ['node-a/a/1', 'node-a/a/4', 'node-a/a/5', 'node-a/a/7', 'node-a/b/1']);
  assert.deepEqual(parked, []);
  assert.deepEqual(
    gaps.map(({ epoch, fromSeq, toSeq, replacedBy }) => [epoch, fromSeq, toSeq, replacedBy]),
    [
      ['a', 2, 3, 'b'],
      ['a', 6, 6, 'b'],
    ],
  );
  assert.deepEqual(
    epochs.map(({ epoch, appliedSeq, current }) => [epoch, appliedSeq, current]),
    [
      ['a', 7, false],
      ['b', 1, true],
    ],
  );
});

test('what parks in one batch is released within the same batch', () => {
  const { apply, park, unpark } = sequence([], NOTHING_PARKED, [event(2), event(3), event(1)], MANY);
  assert.deepEqual(
    apply.map(({ seq }) => seq),
    [1, 2, 3],
  );
  assert.deepEqual([park, unpark], [[], []]);
});

test('where too many wait, what is further ahead than they may be is refused, and nothing else', () => {
  const known = [{ node: 'node-a', epoch: 'a', appliedSeq: 10, current: true, firstAt: null, lastAt: null }];
  const counts = new Map([['node-a/a', 2]]);
  const stored = { ...NOTHING_PARKED, absent: [event(13), event(14)], counts };
  const incoming = [event(14), event(16), event(12), event(13), event(15)];
  const { park, refused, repeats } = sequence(known, stored, incoming, 3);
  assert.deepEqual(
    [park, refused].map((events) => events.map(({ seq }) => seq)),
    [[16, 12], [15]],
  );
  assert.equal(repeats, 2);
});

test('of a spool that is about to be replaced, what is at hand is released with its gaps, and it stays the current one', () => {
  const known = [{ node: 'node-a', epoch: 'a', appliedSeq: 1, current: true, firstAt: null, lastAt: null }];
  const draining = new Map([['node-a/a', 'b']]);
  const { apply, gaps, epochs } = sequence(
    known,
    { ...NOTHING_PARKED, loaded: [event(2), event(5)], draining },
    [],
    MANY,
  );
  assert.deepEqual(
    apply.map(({ seq }) => seq),
    [2, 5],
  );
  assert.deepEqual(gaps, [{ node: 'node-a', epoch: 'a', fromSeq: 3, toSeq: 4, replacedBy: 'b' }]);
  assert.deepEqual(
    epochs.map(({ appliedSeq, current }) => [appliedSeq, current]),
    [[5, true]],
  );
});

test('nodes and spools do not mix', () => {
  const { applied } = run([[event(1), event(1, 'x', 'node-b'), event(2, 'x', 'node-b'), event(3)], [event(2)]]);
  assert.deepEqual(applied, ['node-a/a/1', 'node-b/x/1', 'node-b/x/2', 'node-a/a/2', 'node-a/a/3']);
});
