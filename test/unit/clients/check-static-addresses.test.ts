import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Claims,
  type ClientPool,
  checkStaticAddress,
  readAddresses,
} from '../../../control-plane/clients/check-static-addresses.ts';
import { parsePrefix } from '../../../shared/ip/prefix.ts';

const POOL: ClientPool = {
  name: 'default',
  prefixes: ['10.99.0.0/16', 'fd00:99::/64'].map(parsePrefix),
  blockLength: { 4: 26, 6: 120 },
};
const CLAIMS: Claims = {
  owners: new Map([
    ['10.99.200.9', 'bob'],
    ['10.99.200.7', 'alice'],
  ]),
  held: [{ block: parsePrefix('10.99.0.0/26'), node: 'node-a' }],
};

const check = (address: string) => checkStaticAddress(address, 'alice', POOL, CLAIMS);

test('addresses are read in any form and told in one', () => {
  assert.deepEqual(readAddresses(['FD00:99:0:0::C8:7', '10.99.200.7']), ['fd00:99::c8:7', '10.99.200.7']);
  assert.deepEqual(readAddresses([]), []);
});

for (const [wanted, code, text] of [
  [['10.99.200'], 'ADDRESS_INVALID', /"10.99.200" is not an IP address: expected something like 10/],
  [['10.99.200.0/26'], 'ADDRESS_INVALID', /"10.99.200.0\/26" is not/],
  [['10.99.200.7', '10.99.200.8'], 'ADDRESS_FAMILY_TWICE', /"10.99.200.8" is a second IPv4 address beside 10.99.200.7/],
  [['fd00:99::c8:7', 'fd00:99::c8:7'], 'ADDRESS_FAMILY_TWICE', /second IPv6/],
] as const) {
  test(`${wanted.join(' and ')} cannot be read: ${code}`, () => {
    assert.throws(() => readAddresses(wanted), { code, message: text });
  });
}

for (const [address, code, text] of [
  ['192.0.2.1', 'ADDRESS_OUTSIDE_POOL', /"192.0.2.1" is in no network .* "default".* 10.99.0.0\/16/],
  ['10.99.0.0', 'ADDRESS_RESERVED', /the network address of 10.99.0.0\/16; allowed .* 10.99.0.2 to 10.99.0.63/],
  ['10.99.255.255', 'ADDRESS_RESERVED', /the broadcast address .* 10.99.255.193 to 10.99.255.254/],
  ['10.99.200.0', 'ADDRESS_RESERVED', /the node .* 10.99.200.0\/26 are 10.99.200.1 to 10.99.200.63/],
  ['10.99.0.1', 'ADDRESS_RESERVED', /the address of the node/],
  ['fd00:99::', 'ADDRESS_RESERVED', /network address/],
  ['fd00:99::c8:0', 'ADDRESS_RESERVED', /the address of the node .* fd00:99::c8:1 to fd00:99::c8:ff/],
  ['10.99.200.9', 'ADDRESS_TAKEN', /"10.99.200.9" is the address of client "bob"/],
  ['10.99.0.7', 'ADDRESS_IN_USE', /"10.99.0.7" lies in the block 10.99.0.0\/26, which node "node-a" holds/],
] as const) {
  test(`${address} cannot be a client's own: ${code}`, () => {
    assert.throws(() => check(address), { code, message: text });
  });
}

test('what is free, or its own already, can be', () => {
  for (const address of ['10.99.200.7', '10.99.200.1', '10.99.255.254', 'fd00:99::c8:7', 'fd00:99::ff']) check(address);
});

test('a pool without networks of a family says so', () => {
  const none = { ...POOL, prefixes: [] };
  assert.throws(() => checkStaticAddress('10.99.200.7', 'alice', none, CLAIMS), /IPv4 networks are: none/);
});
