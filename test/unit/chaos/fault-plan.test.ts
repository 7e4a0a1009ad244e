import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planFaults } from '../../chaos/fault-plan.ts';
import { FAULTS } from '../../chaos/faults.ts';

const SECONDS = 120;
const SEEDS = [1, 2, 3, 4_294_967_295];

test('a seed always means the same faults, and another one others', () => {
  for (const seed of SEEDS) assert.deepEqual(planFaults(FAULTS, seed, SECONDS), planFaults(FAULTS, seed, SECONDS));
  assert.notDeepEqual(planFaults(FAULTS, 1, SECONDS), planFaults(FAULTS, 2, SECONDS));
});

test('every kind of fault comes, and all have ended when the run ends', () => {
  for (const seed of SEEDS) {
    const planned = planFaults(FAULTS, seed, SECONDS);
    assert.deepEqual(new Set(planned.map(({ kind }) => kind.name)), new Set(FAULTS.map(({ name }) => name)));
    for (const { atMs, holdMs } of planned) assert.ok(atMs >= 0 && holdMs > 0 && atMs + holdMs <= SECONDS * 1_000 + 1);
  }
});

test('several things are disturbed at once, but each by one fault only', () => {
  for (const seed of SEEDS) {
    const planned = planFaults(FAULTS, seed, SECONDS);
    const overlapping = planned
      .flatMap((a, i) => planned.slice(i + 1).map((b) => [a, b] as const))
      .filter(([a, b]) => b.atMs < a.atMs + a.holdMs - 1);
    assert.ok(overlapping.length > planned.length);
    for (const [a, b] of overlapping) assert.notEqual(a.kind.on, b.kind.on);
  }
});

test('a short run has most kinds', () => {
  for (const seed of SEEDS) {
    const kinds = new Set(planFaults(FAULTS, seed, 20).map(({ kind }) => kind.name));
    assert.ok(kinds.size >= 12, `${kinds.size} kinds`);
  }
});
