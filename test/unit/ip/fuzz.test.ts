import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { addressInPrefix, compareAddresses } from '../../../data-plane/ip/address-key.ts';
import { icmpChecksum } from '../../../data-plane/ip/icmp-checksum.ts';
import { createEchoInfo, readEcho, writeEcho } from '../../../data-plane/ip/icmp-echo.ts';
import { type IcmpProblem, MAX_ICMP_ERROR_BYTES, writeIcmpError } from '../../../data-plane/ip/icmp-error.ts';
import { writeUint16 } from '../../../data-plane/ip/ipv4-header.ts';
import { staysOnLink } from '../../../data-plane/ip/link-scope.ts';
import { inspectPacket } from '../../../data-plane/ip/packet.ts';
import { createPacketInfo } from '../../../data-plane/ip/packet-info.ts';
import { PrefixList } from '../../../data-plane/ip/prefix-list.ts';
import { ADDRESS_BITS, type AddressFamily, addressFromBytes, addressToBytes } from '../../../shared/ip/address.ts';
import { type IpPrefix, prefixContains } from '../../../shared/ip/prefix.ts';
import { fuzz, hostile, surroundings, within } from '../../support/fuzz.ts';
import { anyByte, anyIpv4WithOptions, anyPacket, V4_A, V4_B, V6_A, V6_B, withExtensions } from './sample-packets.ts';

const extension = fc.tuple(
  fc.constantFrom(0, 43, 44, 51, 60, 135, 139, 140),
  fc.uint8Array({ minLength: 7, maxLength: 23 }),
);
const anyExtended = fc
  .tuple(
    fc.array(extension, { minLength: 1, maxLength: 4 }),
    fc.constantFrom(6, 17, 58, 59),
    fc.uint8Array({ maxLength: 20 }),
  )
  .map(([extensions, protocol, rest]) => withExtensions(extensions, protocol, rest));
const anyEcho = fc.tuple(fc.boolean(), fc.uint8Array({ maxLength: 30 })).map(([v4, payload]) => {
  const out = new Uint8Array(200);
  const ends = v4 ? { source: V4_A, destination: V4_B } : { source: V6_A, destination: V6_B };
  return out.subarray(0, writeEcho(out, 0, { kind: 'request', ...ends, identifier: 1, sequence: 2, payload }));
});
const anyIcmp = fc
  .tuple(fc.boolean(), anyByte, fc.uint8Array({ maxLength: 30 }))
  .map(([v4, type, rest]) => (v4 ? withType(4, type, rest) : withType(6, type, rest)));

/** The length in the header is often put right again after the changes, or nothing behind it would ever be looked at. */
const anyInput = fc
  .tuple(
    hostile(
      fc.oneof(
        anyPacket.map(({ bytes }) => bytes.slice(0, 120)),
        anyIpv4WithOptions,
        anyExtended,
        anyEcho,
        anyIcmp,
      ),
      120,
    ),
    fc.integer({ min: 0, max: 3 }),
  )
  .map(([bytes, luck]) => (luck === 0 ? bytes : withRightLength(bytes)));

suite('packets', () => {
  test('item 30 any bytes get one verdict, wherever they lie, and lengths and offsets stay inside of them', () => {
    const [alone, around] = [createPacketInfo(), createPacketInfo()];
    fuzz(anyInput, surroundings, (bytes, outside) => {
      const { buffer, offset } = within(outside, bytes);
      const verdict = inspectPacket(bytes, 0, bytes.length, alone);
      assert.equal(inspectPacket(buffer, offset, bytes.length, around), verdict);
      if (verdict !== 'ok') return;
      assert.deepEqual(around, alone);
      assert.equal(alone.totalLength, bytes.length);
      assert.ok(alone.headerLength <= bytes.length);
      assert.ok(alone.destinationOffset + alone.addressLength <= bytes.length);
      assert.equal(staysOnLink(buffer, offset, alone), staysOnLink(bytes, 0, alone));
      const [one, other] = [createEchoInfo(), createEchoInfo()];
      assert.equal(readEcho(buffer, offset, alone, one), readEcho(bytes, 0, alone, other));
      assert.deepEqual(one, other);
      assert.ok(one.payloadOffset + one.payloadLength <= bytes.length);
    });
  });

  test('item 30 a packet that is cut anywhere is none', () => {
    const info = createPacketInfo();
    fuzz(
      fc.oneof(
        anyPacket.map(({ bytes }) => bytes),
        anyIpv4WithOptions,
        anyExtended,
      ),
      fc.nat(),
      (bytes, cut) => {
        assert.notEqual(inspectPacket(bytes, 0, cut % bytes.length, info), 'ok');
      },
    );
  });

  test('item 34 the error about any packet is whole, within its limit, and about no error', () => {
    const problem = fc.constantFrom<IcmpProblem>('no_route', 'too_big', 'source_prohibited', 'protocol_prohibited');
    const [info, answer, again] = [createPacketInfo(), createPacketInfo(), new Uint8Array(1300)];
    const out = new Uint8Array(1300);
    fuzz(anyInput, surroundings, problem, (bytes, outside, why) => {
      const { buffer, offset } = within(outside, bytes);
      if (inspectPacket(buffer, offset, bytes.length, info) !== 'ok') return;
      const from = info.family === 4 ? V4_B : V6_B;
      const length = writeIcmpError(out, 3, { problem: why, from, mtu: 1280 }, buffer, offset, info);
      if (length === 0) return;
      assert.ok(length <= MAX_ICMP_ERROR_BYTES[info.family]);
      assert.equal(inspectPacket(out, 3, length, answer), 'ok');
      assert.equal(icmpChecksum(out, 3, answer.headerLength, length - answer.headerLength), 0);
      assert.equal(writeIcmpError(again, 0, { problem: 'no_route', from, mtu: 1280 }, out, 3, answer), 0);
    });
  });
});

suite('addresses in packets', () => {
  const anyPrefix = fc
    .tuple(fc.constantFrom<AddressFamily>(4, 6), fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.nat(128))
    .map(([family, bytes, wanted]): IpPrefix => {
      const width = ADDRESS_BITS[family];
      const { value } = addressFromBytes(bytes.subarray(0, width / 8));
      const length = Math.min(wanted, width);
      const host = BigInt(width - length);
      return { address: { family, value: (value >> host) << host }, length };
    });

  test('bytes are in a prefix, and before one another, as the numbers are that they stand for', () => {
    // Often inside, or one bit beside it.
    const near = fc.tuple(anyPrefix, fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.option(fc.nat(127)));
    fuzz(near, surroundings, ([prefix, noise, flipped], outside) => {
      const { family } = prefix.address;
      const own = addressToBytes(prefix.address);
      const bytes = own.map((byte, i) => byte | (i * 8 >= prefix.length ? noise[i]! : 0));
      if (flipped !== null) bytes[(flipped >> 3) % bytes.length]! ^= 1 << (flipped & 7);
      const address = addressFromBytes(bytes);
      const { buffer, offset } = within(outside, bytes);
      const expected = prefixContains(prefix, address);
      assert.equal(addressInPrefix(buffer, offset, own, prefix.length), expected);
      assert.equal(new PrefixList([prefix]).contains(buffer, offset, family), expected);
      assert.equal(new PrefixList([]).contains(buffer, offset, family), false);
      const order = address.value < prefix.address.value ? -1 : address.value > prefix.address.value ? 1 : 0;
      assert.equal(Math.sign(compareAddresses(buffer, offset, own, 0, own.length)), order);
    });
  });
});

function withType(family: AddressFamily, type: number, rest: Uint8Array): Uint8Array {
  const out = new Uint8Array(200);
  const ends = family === 4 ? { source: V4_A, destination: V4_B } : { source: V6_A, destination: V6_B };
  const length = writeEcho(out, 0, { kind: 'reply', ...ends, identifier: 0, sequence: 0, payload: rest });
  out[family === 4 ? 20 : 40] = type;
  return out.subarray(0, length);
}

function withRightLength(bytes: Uint8Array): Uint8Array {
  const right = bytes.slice();
  if (right.length >= 20 && right[0]! >> 4 === 4) writeUint16(right, 2, right.length);
  if (right.length >= 40 && right[0]! >> 4 === 6) writeUint16(right, 4, right.length - 40);
  return right;
}
