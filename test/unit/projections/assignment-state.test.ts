import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type Assignment,
  decideAssignment,
  endAssignment,
} from '../../../control-plane/projections/assignment-state.ts';
import type { BlockGrant } from '../../../control-plane/projections/block-grants.ts';
import { rangesOverlap } from '../../../control-plane/projections/time-range.ts';
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

test('the same connection does not conflict with itself, another one does', () => {
  const alice = connectionOf('alice');
  const first = decideAssignment([], assign(1, alice), 1, undefined);
  assert.ok(first.type === 'assigned');
  assert.equal(decideAssignment([first.assignment], assign(2, alice), 2, undefined).type, 'repeated');
  const other = decideAssignment([first.assignment], assign(2), 2, undefined);
  assert.ok(other.type === 'conflict');
  assert.equal(other.holder.connectionId, alice.connectionId);
});
