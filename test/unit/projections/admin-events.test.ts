import assert from 'node:assert/strict';
import { test } from 'node:test';
import { adminEventOf } from '../../../control-plane/projections/admin-events.ts';
import type { VpnEvent } from '../../../shared/events/envelope.ts';

const eventOf = (type: string, data: object): VpnEvent => ({ type, data }) as unknown as VpnEvent;

test('an event with an actor says who changed what, whatever its type', () => {
  assert.deepEqual(adminEventOf(eventOf('client.updated', { clientId: 'a', name: 'Ada', actor: 'bob' })), {
    actor: 'bob',
    subject: { kind: 'client', id: 'a' },
    change: { name: 'Ada' },
  });
  assert.deepEqual(adminEventOf(eventOf('pool.added', { name: 'navy', v4: '10.1.0.0/16', actor: 'bob' })), {
    actor: 'bob',
    subject: { kind: 'pool', id: 'navy' },
    change: { v4: '10.1.0.0/16' },
  });
  assert.deepEqual(adminEventOf(eventOf('dead_letter.applied', { id: 7, node: 'node-a', actor: 'cli:bob' })), {
    actor: 'cli:bob',
    subject: { kind: 'dead_letter', id: '7' },
    change: { node: 'node-a' },
  });
  assert.deepEqual(adminEventOf(eventOf('projections.rebuilt', { from: 0, position: 9, actor: 'cli:bob' })), {
    actor: 'cli:bob',
    subject: { kind: 'projections', id: '' },
    change: { from: 0, position: 9 },
  });
});

test('an event without an actor is no change by anybody', () => {
  assert.equal(adminEventOf(eventOf('block.granted', { node: 'node-a', block: '10.99.0.0/26' })), undefined);
});
