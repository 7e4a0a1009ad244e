import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkTunName, tunNameOf } from '../../../data-plane/shards/tun-names.ts';

test('one shard has the name as it is, several have it with their numbers, and the kernel numbers %d', () => {
  assert.equal(tunNameOf('vpn', 0, 1), 'vpn');
  assert.deepEqual([tunNameOf('vpn', 0, 2), tunNameOf('vpn', 1, 2)], ['vpn-0', 'vpn-1']);
  assert.deepEqual([tunNameOf('masque%d', 0, 2), tunNameOf('masque%d', 1, 2)], ['masque%d', 'masque%d']);
});

test('a name that leaves no room for the numbers is refused, and it says how long it may be', () => {
  checkTunName({ TUN_NAME: 'fifteen-letters', SHARDS: 1 });
  checkTunName({ TUN_NAME: 'letters%d-fifte', SHARDS: 64 });
  checkTunName({ TUN_NAME: 'thirteen-char', SHARDS: 10 });
  assert.throws(() => checkTunName({ TUN_NAME: 'thirteen-char', SHARDS: 11 }), {
    code: 'BAD_CONFIG',
    message: /^TUN_NAME: got "thirteen-char", expected up to 12 characters with 11 SHARDS, .* thirteen-char-10/,
  });
});
