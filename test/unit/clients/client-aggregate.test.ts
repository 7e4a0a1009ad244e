import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type ClientAggregate,
  ClientCommandError,
  decideClient,
  evolveClient,
} from '../../../control-plane/clients/client-aggregate.ts';
import { createClientToken, hashClientToken, TOKEN_PREFIX } from '../../../control-plane/clients/client-token.ts';

const unknown: ClientAggregate = {
  clientId: 'alice',
  version: 0,
  pool: 'default',
  addresses: [],
  state: { status: 'unknown' },
};
const base = { now: Date.parse('2026-01-01T00:00:00.000Z'), actor: 'admin' };

function apply(client: ClientAggregate, type: 'enrol' | 'update' | 'revoke'): ClientAggregate {
  const command = type === 'revoke' ? { ...base, type } : { ...base, type, name: 'Alice', pool: 'staff' };
  const event = decideClient(client, command);
  return event ? evolveClient(client, event) : client;
}

test('enrolled, renamed, revoked and enrolled again, each a version of its own', () => {
  let client = unknown;
  for (const type of ['enrol', 'update', 'revoke', 'enrol'] as const) client = apply(client, type);
  assert.deepEqual(client, {
    clientId: 'alice',
    version: 4,
    pool: 'staff',
    addresses: [],
    state: { status: 'active' },
  });
});

test('addresses of its own are set, kept by what else changes, and gone with a revocation', () => {
  const set = (client: ClientAggregate, ...addresses: string[]) =>
    decideClient(client, { ...base, type: 'setAddresses', addresses });
  const active = apply(unknown, 'enrol');
  assert.equal(set(active), undefined);
  const event = set(active, 'fd00:99::7', '10.99.200.7');
  assert.deepEqual(event?.data, { clientId: 'alice', addresses: ['10.99.200.7', 'fd00:99::7'], actor: 'admin' });
  const with2 = evolveClient(active, event!);
  assert.equal(set(with2, '10.99.200.7', 'fd00:99::7'), undefined, 'the order says nothing');
  assert.deepEqual(apply(with2, 'update').addresses, ['10.99.200.7', 'fd00:99::7']);
  assert.deepEqual(evolveClient(with2, set(with2)!).addresses, []);
  assert.deepEqual(apply(with2, 'revoke').addresses, []);
  assert.throws(() => set(unknown, '10.99.200.7'), { code: 'CLIENT_UNKNOWN' });
  assert.throws(() => set(apply(with2, 'revoke'), '10.99.200.7'), { code: 'CLIENT_REVOKED' });
});

test('revoking twice is one event', () => {
  const revoked = apply(apply(unknown, 'enrol'), 'revoke');
  assert.equal(decideClient(revoked, { ...base, type: 'revoke' }), undefined);
});

test('what cannot be done says why', () => {
  const active = apply(unknown, 'enrol');
  const revoked = apply(active, 'revoke');
  const code = (expected: string) => (error: unknown) => error instanceof ClientCommandError && error.code === expected;
  assert.throws(() => apply(active, 'enrol'), code('CLIENT_EXISTS'));
  assert.throws(() => apply(unknown, 'update'), code('CLIENT_UNKNOWN'));
  assert.throws(() => apply(unknown, 'revoke'), code('CLIENT_UNKNOWN'));
  assert.throws(() => apply(revoked, 'update'), code('CLIENT_REVOKED'));
});

test('whatever is tried, versions count events and a revoked client comes back by enrolment only', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom('enrol', 'update', 'revoke')), (types) => {
      let client = unknown;
      for (const type of types) {
        const before = client;
        try {
          client = apply(client, type);
        } catch (error) {
          assert.ok(error instanceof ClientCommandError);
        }
        assert.ok(client.version === before.version || client.version === before.version + 1);
        if (before.state.status === 'revoked' && client.state.status === 'active') assert.equal(type, 'enrol');
      }
    }),
  );
});

test('tokens carry 256 random bits behind a prefix that tells them apart', () => {
  const token = createClientToken();
  assert.match(token, /^mvpn_[A-Za-z0-9_-]{43}$/);
  assert.notEqual(token, createClientToken());
  assert.ok(token.startsWith(TOKEN_PREFIX));
  assert.match(hashClientToken(token), /^[0-9a-f]{64}$/);
});
