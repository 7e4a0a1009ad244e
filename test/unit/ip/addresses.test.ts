import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { addressInPrefix, compareAddresses, isLinkLocal, isMulticast } from '../../../data-plane/ip/address-key.ts';
import { AddressTable } from '../../../data-plane/ip/address-table.ts';
import { addressFromBytes, addressToBytes, parseAddress } from '../../../shared/ip/address.ts';
import { prefixContains } from '../../../shared/ip/prefix.ts';
import { embed } from './sample-packets.ts';

const bytesOf = (text: string) => addressToBytes(parseAddress(text));
// Few different addresses, so that sets and deletes meet; many of them share a hash slot.
const v4 = fc.integer({ min: 0, max: 300 }).map((n) => Uint8Array.of(10, 99, n >> 8, n & 255));
const v6 = fc.integer({ min: 0, max: 300 }).map((n) => Uint8Array.of(0xfd, ...new Uint8Array(13), n >> 8, n & 255));
const anyAddress = fc.oneof(v4, v6);

describe('AddressTable', () => {
  it('behaves as a map under any sequence of changes', () => {
    const step = fc.record({ address: anyAddress, remove: fc.boolean(), value: fc.integer() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 600 }), (steps) => {
        const table = new AddressTable<number>();
        const model = new Map<string, { address: Uint8Array; value: number }>();
        for (const { address, remove, value } of steps) {
          const key = address.join('.');
          if (remove) {
            assert.equal(table.delete(address), model.delete(key));
          } else {
            table.set(address, value);
            model.set(key, { address, value });
          }
        }
        assert.equal(table.size, model.size);
        for (const { address, value } of model.values()) {
          const { buffer, offset } = embed(address);
          assert.equal(table.get(buffer, offset, address.length === 4 ? 4 : 16), value);
        }
        assert.equal(table.get(bytesOf('192.0.2.1'), 0, 4), undefined);
      }),
    );
  });
});

describe('addresses in packets', () => {
  it('are in a prefix exactly when the bigint arithmetic says so', () => {
    const anyOf = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
    const pair = fc
      .constantFrom(4, 16)
      .chain((length) => fc.tuple(anyOf(length), anyOf(length), fc.nat(length * 8), fc.nat()));
    fc.assert(
      fc.property(pair, ([network, random, bits, keep]) => {
        // Half of the time the address is the network with some bit changed.
        const address = keep % 2 === 0 ? random : network.slice();
        if (address !== random) address[(keep >> 1) % address.length]! ^= 1 << (keep % 8);
        const value = addressFromBytes(network).value;
        const host = (1n << BigInt(network.length * 8 - bits)) - 1n;
        const family = network.length === 4 ? 4 : 6;
        const masked = { address: { family, value: value & ~host }, length: bits } as const;
        const { buffer, offset } = embed(address);
        const expected = prefixContains(masked, addressFromBytes(address));
        assert.equal(addressInPrefix(buffer, offset, addressToBytes(masked.address), bits), expected);
        assert.equal(
          Math.sign(compareAddresses(buffer, offset, network, 0, network.length)),
          Math.sign(Number(addressFromBytes(address).value - value)),
        );
      }),
      { numRuns: 500 },
    );
  });

  it('are known as link-local and multicast', () => {
    const linkLocal = (text: string) => isLinkLocal(bytesOf(text), 0, bytesOf(text).length);
    const multicast = (text: string) => isMulticast(bytesOf(text), 0, bytesOf(text).length);
    for (const yes of ['169.254.0.1', 'fe80::1', 'febf::1']) assert.ok(linkLocal(yes), yes);
    for (const no of ['169.253.0.1', 'fec0::1', 'fd00::1']) assert.ok(!linkLocal(no), no);
    for (const yes of ['224.0.0.1', '239.255.255.255', 'ff02::1']) assert.ok(multicast(yes), yes);
    for (const no of ['223.0.0.1', '240.0.0.1', 'fe80::1']) assert.ok(!multicast(no), no);
  });
});
