import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { nextTunnelState, type TunnelState, type TunnelTransition } from '../../../data-plane/tunnel/tunnel-state.ts';

const requested: TunnelState = { kind: 'requested' };
const accept: TunnelTransition = { kind: 'accept', connectionId: 'c', clientId: 'client', nowMs: 5 };
const end: TunnelTransition = { kind: 'end', reason: 'idle', detail: 'silence' };

test('a request opens, and an open tunnel closes with its reason', () => {
  const open = nextTunnelState(requested, accept);
  assert.deepEqual(open, { kind: 'open', connectionId: 'c', clientId: 'client', openedMs: 5 });
  assert.deepEqual(nextTunnelState(open, end), { kind: 'closed', reason: 'idle', detail: 'silence' });
});

test('a tunnel ends once, with its first reason, and nothing reopens it', () => {
  const transitions = fc.array(
    fc.oneof(
      fc.constant(accept),
      fc
        .constantFrom('client' as const, 'error' as const)
        .map((reason) => ({ kind: 'end' as const, reason, detail: '' })),
    ),
  );
  fc.assert(
    fc.property(transitions, (steps) => {
      let state: TunnelState = requested as TunnelState;
      for (const step of steps) state = nextTunnelState(state, step);
      const firstEnd = steps.find(({ kind }) => kind === 'end');
      if (firstEnd?.kind === 'end') assert.deepEqual(state, { kind: 'closed', reason: firstEnd.reason, detail: '' });
      else assert.equal(state.kind, steps.length === 0 ? 'requested' : 'open');
    }),
  );
});
