import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LoopTimers } from '../../../data-plane/packet-thread/loop-timers.ts';

test('without timers the loop may wait for ever', () => {
  assert.equal(new LoopTimers().untilNextMs(0), Number.POSITIVE_INFINITY);
});

test('a timer runs when it is due, not before, and again an interval later', () => {
  const timers = new LoopTimers();
  const runs: number[] = [];
  timers.every(100, 1_000, (now) => runs.push(now));
  assert.equal(timers.untilNextMs(1_000), 100);
  timers.runDue(1_099);
  assert.deepEqual(runs, []);
  timers.runDue(1_100);
  timers.runDue(1_150);
  assert.equal(timers.untilNextMs(1_150), 50);
  timers.runDue(1_203);
  assert.deepEqual(runs, [1_100, 1_203]);
  // It was late by 3 ms; the beat stays.
  assert.equal(timers.untilNextMs(1_203), 97);
});

test('what was missed while the thread was busy is skipped, not made up for', () => {
  const timers = new LoopTimers();
  let runs = 0;
  timers.every(10, 0, () => runs++);
  timers.runDue(1_000);
  assert.equal(runs, 1);
  timers.runDue(1_000);
  assert.equal(runs, 1);
  assert.equal(timers.untilNextMs(1_000), 10);
});

test('several timers keep their own beat, whatever the times at which the loop turns', () => {
  const steps = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 200 });
  fc.assert(
    fc.property(steps, (waits) => {
      const timers = new LoopTimers();
      const counts = new Map([7, 20, 45].map((every) => [every, 0]));
      for (const every of counts.keys()) {
        timers.every(every, 0, () => counts.set(every, (counts.get(every) ?? 0) + 1));
      }
      let now = 0;
      for (const wait of waits) {
        const due = now + timers.untilNextMs(now);
        now += wait;
        const before = [...counts.values()].reduce((a, b) => a + b);
        timers.runDue(now);
        const ran = [...counts.values()].reduce((a, b) => a + b) > before;
        assert.equal(ran, now >= due);
      }
      for (const [every, count] of counts)
        assert.ok(count <= now / every + 1, `${count} runs of ${every} in ${now} ms`);
    }),
  );
});
