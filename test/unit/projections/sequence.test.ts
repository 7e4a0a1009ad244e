import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type EpochState, endOfRun, type Sequenced, sequence } from '../../../control-plane/projector/sequence.ts';

const event = (seq: number, epoch = 'a', node = 'node-a'): Sequenced => ({ node, epoch, seq, at: `t${seq}` });

/** Applies batches one after the other, with what would be stored in between; given is only what can be released. */
function run(batches: ReadonlyArray<readonly Sequenced[]>) {
  const epochs = new Map<string, EpochState>();
  const parked = new Map<string, Sequenced>();
  const key = ({ node, epoch, seq }: Sequenced) => `${node}/${epoch}/${seq}`;
  const applied: string[] = [];
  const gaps = [];
  for (const batch of batches) {
    const stored = [...parked.values()];
    const isReleasable = ({ node, epoch, seq }: Sequenced) => {
      const isReplaced = batch.some((one) => one.node === node && !epochs.has(`${node}/${one.epoch}`));
      const seqs = [...stored, ...batch]
        .filter((one) => one.node === node && one.epoch === epoch)
        .map((one) => one.seq);
      return isReplaced || seq <= endOfRun(epochs.get(`${node}/${epoch}`)?.appliedSeq ?? 0, new Set(seqs));
    };
    const absent = stored.filter((one) => !isReleasable(one));
    const result = sequence([...epochs.values()], stored.filter(isReleasable), batch, absent);
    for (const state of result.epochs) epochs.set(`${state.node}/${state.epoch}`, state);
    for (const one of result.unpark) assert.ok(parked.delete(key(one)), 'only what is stored is taken out');
    for (const one of result.park) {
      assert.ok(!parked.has(key(one)), 'nothing is stored twice');
      parked.set(key(one), one);
    }
    applied.push(...result.apply.map(key));
    gaps.push(...result.gaps);
  }
  return { applied, parked: [...parked.keys()], gaps, epochs: [...epochs.values()] };
}

test('any order, any repetition, any cut into batches: each event is applied once, in its order', () => {
  const order = fc.integer({ min: 1, max: 12 }).chain((count) => {
    const all = Array.from({ length: count }, (_, index) => index + 1);
    const repeated = fc.array(fc.constantFrom(...all), { maxLength: 12 });
    return fc.tuple(repeated, fc.shuffledSubarray(all, { minLength: count })).chain(([extra, shuffled]) => {
      return fc.tuple(fc.shuffledSubarray([...shuffled, ...extra], { minLength: count + extra.length }), fc.nat(5));
    });
  });
  fc.assert(
    fc.property(order, ([seqs, size]) => {
      const batches: Sequenced[][] = [];
      for (let start = 0; start < seqs.length; start += size + 1) {
        batches.push(seqs.slice(start, start + size + 1).map((seq) => event(seq)));
      }
      const { applied, parked, gaps } = run(batches);
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
  const { apply, park, unpark } = sequence([], [], [event(2), event(3), event(1)]);
  assert.deepEqual(
    apply.map(({ seq }) => seq),
    [1, 2, 3],
  );
  assert.deepEqual([park, unpark], [[], []]);
});

test('nodes and spools do not mix', () => {
  const { applied } = run([[event(1), event(1, 'x', 'node-b'), event(2, 'x', 'node-b'), event(3)], [event(2)]]);
  assert.deepEqual(applied, ['node-a/a/1', 'node-b/x/1', 'node-b/x/2', 'node-a/a/2', 'node-a/a/3']);
});
