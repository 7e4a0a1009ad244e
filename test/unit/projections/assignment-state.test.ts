import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type Assignment,
  decideAssignment,
  endAssignment,
} from '../../../control-plane/projections/assignment-state.ts';
import type { BlockGrant } from '../../../control-plane/projections/block-grants.ts';
import { distanceTo, rangesOverlap } from '../../../control-plane/projections/time-range.ts';
import type { VpnEvent } from '../../../shared/events/envelope.ts';
import { assigned, at, BLOCK, connectionOf, SampleNode } from './sample-events.ts';

const assign = (seconds: number, connection = connectionOf('alice')) =>
  assigned(new SampleNode('node-a'), connection, seconds) as VpnEvent<'address.assigned'>;

const grant: BlockGrant = {
  id: 1,
  ...BLOCK,
  node: 'node-a',
  from: Date.parse(at(0)),
  until: Date.parse(at(100)),
  leaseEnd: Date.parse(at(100)),
  endReason: 'reclaimed',
  grantedPosition: 1,
  endedPosition: 9,
};

test('whatever is assigned and released: assignments never overlap, and an end only moves earlier', () => {
  const step = fc.record({ seconds: fc.integer({ min: 0, max: 50 }), end: fc.option(fc.integer({ min: 0, max: 60 })) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 15 }), (steps) => {
      const accepted: Assignment[] = [];
      for (const [position, { seconds, end }] of steps.entries()) {
        const decision = decideAssignment(accepted, assign(seconds), position, undefined);
        if (decision.type === 'assigned') accepted.push(decision.assignment);
        const last = accepted.at(-1);
        if (end === null || last === undefined) continue;
        const ended = endAssignment(last, Date.parse(at(end)), 'client', position);
        assert.ok(last.until === null || (ended.until !== null && ended.until <= last.until));
        assert.ok(ended.until === null || ended.until > ended.from);
        accepted[accepted.length - 1] = ended;
      }
      for (const [index, one] of accepted.entries()) {
        for (const other of accepted.slice(index + 1)) assert.ok(!rangesOverlap(one, other));
      }
    }),
  );
});

test('an assignment that arrives after its block was reclaimed is over with the lease, and so hurts nobody', () => {
  const late = decideAssignment([], assign(50), 10, grant);
  assert.ok(late.type === 'assigned');
  assert.equal(late.assignment.until, grant.until);
  assert.equal(late.assignment.endReason, 'reclaimed');
  const next = { ...late.assignment, from: Date.parse(at(170)), until: null, connectionId: 'other' };
  assert.equal(decideAssignment([next], assign(50), 10, grant).type, 'assigned');
});

test('assignments that a clock ahead puts behind their grant follow each other at its end', () => {
  const over = grant.until!;
  const accepted: Assignment[] = [];
  for (let i = 0; i < 3; i++) {
    const decision = decideAssignment(accepted, assign(120), 10 + i, grant);
    assert.ok(decision.type === 'assigned');
    accepted.push(decision.assignment);
  }
  const ranges = accepted.map(({ from, until }) => [from - over, until! - over]);
  assert.deepEqual(ranges, [
    [-1, 0],
    [0, 1],
    [1, 2],
  ]);
});

test('the same connection does not conflict with itself, another one does', () => {
  const alice = connectionOf('alice');
  const late = decideAssignment([], assign(50, alice), 10, grant);
  assert.ok(late.type === 'assigned');
  assert.equal(decideAssignment([late.assignment], assign(50, alice), 11, grant).type, 'repeated');
  const first = decideAssignment([], assign(1, alice), 1, undefined);
  assert.ok(first.type === 'assigned');
  assert.equal(decideAssignment([first.assignment], assign(2, alice), 2, undefined).type, 'repeated');
  const other = decideAssignment([first.assignment], assign(2), 2, undefined);
  assert.ok(other.type === 'conflict');
  assert.equal(other.holder.connectionId, alice.connectionId);
});

/** One use of an address at a node: its connection begins and ends, milliseconds of true time. */
interface Stay {
  readonly node: 'node-a' | 'node-b';
  readonly begin: number;
  readonly end: number;
}

/** What the projection makes of an address that goes from node to node, whose clocks are wrong and whose events are late. */
function project(
  stays: readonly Stay[],
  clocks: Readonly<Record<Stay['node'], { readonly aheadMs: number; readonly lateMs: number }>>,
): Assignment[] {
  const log: Array<{ readonly position: number; readonly apply: (position: number) => void }> = [];
  const grants: BlockGrant[] = [];
  const assignments: Assignment[] = [];
  for (const { node, begin, end } of stays) {
    const connection = connectionOf('alice');
    const { aheadMs, lateMs } = clocks[node];
    const time = (ms: number) => (ms + aheadMs) / 1000;
    const grantedAt = begin - 1;
    log.push({
      position: grantedAt,
      apply: (position) => {
        grants.push({ ...grant, node, from: Date.parse(at(grantedAt / 1000)), until: null, grantedPosition: position });
      },
    });
    log.push({
      position: begin + lateMs,
      apply: (position) => {
        const event = { ...assign(time(begin), connection), node };
        const mine = grants.filter((other) => other.node === node);
        const when = Date.parse(event.at);
        const [nearest] = mine.toSorted((a, b) => distanceTo(a, when) - distanceTo(b, when));
        const decision = decideAssignment(assignments, event, position, nearest);
        assert.equal(decision.type, 'assigned');
        if (decision.type === 'assigned') assignments.push(decision.assignment);
      },
    });
    log.push({
      position: end + lateMs,
      apply: (position) => {
        const index = assignments.findLastIndex(({ connectionId }) => connectionId === connection.connectionId);
        assignments[index] = endAssignment(assignments[index]!, Date.parse(at(time(end))), 'client', position);
      },
    });
    log.push({
      position: end + 1,
      apply: (position) => {
        const until = Date.parse(at((end + 1) / 1000));
        const index = grants.findLastIndex((other) => other.node === node);
        grants[index] = { ...grants[index]!, until, endReason: 'returned', endedPosition: position };
        for (const [j, row] of assignments.entries()) {
          if (row.node === node && row.until === null) assignments[j] = endAssignment(row, until, 'returned', position);
        }
      },
    });
  }
  // What the control plane decides comes in its order, what nodes say comes late, each node's in its order.
  for (const { position, apply } of log.toSorted((a, b) => a.position - b.position)) apply(position);
  return assignments;
}

test('an address that goes from node to node is never held twice, though their clocks are wrong and their events late', () => {
  // Each stay and each pause is longer than a clock is wrong: else a node's events could belong to the one or the other grant.
  const gap = fc.integer({ min: 2_001, max: 20_000 });
  const stays = fc
    .array(fc.record({ node: fc.constantFrom('node-a', 'node-b'), pause: gap, length: gap }), { maxLength: 8 })
    .map((steps) => {
      let now = 1_000;
      return steps.map(({ node, pause, length }): Stay => {
        const begin = now + pause;
        now = begin + length;
        return { node, begin, end: now };
      });
    });
  const clock = fc.record({
    aheadMs: fc.integer({ min: -2_000, max: 2_000 }),
    lateMs: fc.integer({ min: 0, max: 50_000 }),
  });
  fc.assert(
    fc.property(stays, clock, clock, (list, a, b) => {
      const found = project(list, { 'node-a': a, 'node-b': b });
      assert.equal(found.length, list.length);
      for (const [i, one] of found.entries()) {
        for (const other of found.slice(i + 1)) assert.ok(!rangesOverlap(one, other), JSON.stringify([one, other]));
      }
    }),
  );
});
