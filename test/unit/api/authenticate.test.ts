import assert from 'node:assert/strict';
import { test } from 'node:test';
import { actorOf, createAuthenticator } from '../../../control-plane/api/authenticate.ts';

const authenticate = createAuthenticator([
  { name: 'admin', token: 'token-of-the-admin' },
  { name: 'ada', token: 'token-of-ada-1234' },
]);

test('a token names its actor, whatever its place in the list', () => {
  assert.equal(authenticate('Bearer token-of-the-admin'), 'admin');
  assert.equal(authenticate('bearer  token-of-ada-1234 '), 'ada');
});

test('what is no whole token of anybody names nobody', () => {
  const wrong = [undefined, '', 'Bearer', 'Bearer ', 'Bearer token-of-ada-123', 'Bearer token-of-ada-12345'];
  for (const authorization of [...wrong, 'Basic token-of-ada-1234', 'Bearer token-of-ada-1234 x', 'Bearer ada']) {
    assert.equal(authenticate(authorization), undefined, String(authorization));
  }
});

test('a route without authentication has no actor', () => {
  assert.equal(actorOf({ actor: 'ada' }), 'ada');
  assert.throws(() => actorOf({ actor: '' }), TypeError);
});
