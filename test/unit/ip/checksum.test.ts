import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { internetChecksum, sumWords, updateChecksum } from '../../../data-plane/ip/checksum.ts';
import { decrementTtl } from '../../../data-plane/ip/forwarding.ts';
import { ipv4ChecksumIsRight, readUint16, writeUint16 } from '../../../data-plane/ip/ipv4-header.ts';
import { anyIpv4WithOptions, anyPacket, embed } from './sample-packets.ts';

/** One's complement addition done bit by bit as RFC 1071 words it: a carry out of the top is added at the bottom, at once. */
function naiveChecksum(bytes: Uint8Array): number {
  let sum = 0n;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += (BigInt(bytes[i] ?? 0) << 8n) | BigInt(bytes[i + 1] ?? 0);
    if (sum > 0xffffn) sum -= 0xffffn;
  }
  return Number(0xffffn - sum);
}

describe('internetChecksum', () => {
  it('is that of the naive algorithm, for any bytes at any offset', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 4000 }), fc.integer({ min: 0, max: 9 }), (bytes, before) => {
        const { buffer, offset } = embed(bytes, before);
        assert.equal(internetChecksum(buffer, offset, bytes.length), naiveChecksum(bytes));
      }),
    );
  });

  it('does not overflow on the longest packet', () => {
    const bytes = new Uint8Array(0xffff).fill(0xff);
    assert.equal(internetChecksum(bytes, 0, bytes.length), naiveChecksum(bytes));
  });

  it('is the same in pieces', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.uint8Array({ maxLength: 200 }), (a, b) => {
        const even = a.subarray(0, a.length & ~1);
        const whole = Uint8Array.from([...even, ...b]);
        const inPieces = internetChecksum(b, 0, b.length, sumWords(even, 0, even.length));
        assert.equal(inPieces, internetChecksum(whole, 0, whole.length));
      }),
    );
  });

  it('can be corrected for one changed word', () => {
    const words = fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 2, maxLength: 30 });
    fc.assert(
      fc.property(words, fc.nat(), fc.integer({ min: 0, max: 0xffff }), (values, at, next) => {
        // A version byte keeps a header's sum from being 0, the one case where the two zeros of one's complement differ.
        const bytes = new Uint8Array(2 + values.length * 2);
        writeUint16(bytes, 0, 0x4500);
        for (const [i, value] of values.entries()) writeUint16(bytes, 2 + i * 2, value);
        const before = internetChecksum(bytes, 0, bytes.length);
        const offset = 2 + (at % values.length) * 2;
        const corrected = updateChecksum(before, readUint16(bytes, offset), next);
        writeUint16(bytes, offset, next);
        assert.equal(corrected, internetChecksum(bytes, 0, bytes.length));
      }),
    );
  });
});

describe('decrementTtl', () => {
  it('lowers the TTL by one and keeps the IPv4 checksum right, options included', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          anyPacket.map((p) => p.bytes),
          anyIpv4WithOptions,
        ),
        (bytes) => {
          const { buffer, offset } = embed(bytes);
          const v4 = bytes[0]! >> 4 === 4;
          const at = offset + (v4 ? 8 : 7);
          const before = buffer.slice();
          const alive = decrementTtl(buffer, offset);
          assert.equal(alive, before[at]! > 1);
          if (!alive) {
            assert.deepEqual(buffer, before, 'an expired packet is left as it is');
            return;
          }
          assert.equal(buffer[at], before[at]! - 1);
          if (v4) assert.ok(ipv4ChecksumIsRight(buffer, offset));
          before[at] = buffer[at]!;
          if (v4) before.set(buffer.subarray(offset + 10, offset + 12), offset + 10);
          assert.deepEqual(buffer, before, 'nothing else changes');
        },
      ),
    );
  });
});
