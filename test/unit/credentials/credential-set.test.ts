import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { CredentialSet } from '../../../data-plane/credentials/credential-set.ts';
import type { Credential } from '../../../shared/nats/messages.ts';

function credential(version: number, state: Credential['state'] = 'active', token = `token-${version}`): Credential {
  const tokenSha256 = createHash('sha256').update(token).digest('hex');
  return { clientId: 'alice', version, state, tokenSha256, updatedAt: '2026-01-01T00:00:00.000Z' };
}

test('a token is known by its hash, and a newer version replaces it', () => {
  const set = new CredentialSet([credential(1)]);
  assert.deepEqual(set.authenticate('token-1'), { clientId: 'alice', pool: 'default', addresses: [] });
  assert.equal(set.authenticate('token-2'), undefined);
  set.put(credential(2));
  assert.equal(set.authenticate('token-1'), undefined);
  assert.deepEqual(set.authenticate('token-2'), { clientId: 'alice', pool: 'default', addresses: [] });
});

test('an older version is never accepted', () => {
  const set = new CredentialSet([credential(2, 'revoked')]);
  assert.equal(set.put(credential(1)), undefined);
  assert.equal(set.put(credential(2)), undefined);
  assert.equal(set.authenticate('token-1'), undefined);
});

test('a revocation is reported once', () => {
  const set = new CredentialSet([credential(1)]);
  assert.equal(set.put(credential(2, 'revoked'))?.revoked, true);
  assert.equal(set.put(credential(2, 'revoked')), undefined);
  assert.equal(set.put(credential(3, 'revoked'))?.revoked, false);
});

test('a deletion ends a client and un-revokes none; the same version may come back after it', () => {
  const set = new CredentialSet([credential(2)]);
  assert.equal(set.delete('alice')?.revoked, true);
  assert.equal(set.authenticate('token-2'), undefined);
  assert.equal(set.put(credential(1)), undefined);
  set.put(credential(2));
  assert.deepEqual(set.authenticate('token-2'), { clientId: 'alice', pool: 'default', addresses: [] });
  set.put(credential(3, 'revoked'));
  assert.equal(set.delete('alice'), undefined);
  assert.equal(set.put(credential(3)), undefined);
  assert.equal(set.delete('nobody'), undefined);
});

test('whatever the order of messages, only the newest version counts', () => {
  const states = fc.constantFrom<Credential['state']>('active', 'revoked');
  fc.assert(
    fc.property(fc.array(states, { minLength: 1, maxLength: 6 }), fc.infiniteStream(fc.nat()), (versions, picks) => {
      const all = versions.map((state, i) => credential(i + 1, state));
      const set = new CredentialSet([]);
      const order = [...all, ...all].map((value) => ({ value, key: picks.next().value })).sort((a, b) => a.key - b.key);
      for (const { value } of order) set.put(value);
      all.forEach(({ state }, i) => {
        const accepted = i === all.length - 1 && state === 'active';
        assert.equal(set.authenticate(`token-${i + 1}`) !== undefined, accepted);
      });
    }),
  );
});
