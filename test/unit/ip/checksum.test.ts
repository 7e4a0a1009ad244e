import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { foldChecksum, internetChecksum, sumWords, updateChecksum } from '../../../data-plane/ip/checksum.ts';
import { decrementTtl } from '../../../data-plane/ip/forwarding.ts';
import { ipv4ChecksumIsRight, readUint16, writeUint16 } from '../../../data-plane/ip/ipv4-header.ts';
import { WordBuffer } from '../../../data-plane/ip/word-buffer.ts';
import { naiveChecksum } from './naive-checksum.ts';
import { anyIpv4WithOptions, anyPacket, embed } from './sample-packets.ts';

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

describe('WordBuffer', () => {
  it('gives the sum of the naive algorithm for any range, at even and odd offsets, and reads nothing else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 4000 }), fc.integer({ min: 0, max: 9 }), (bytes, offset) => {
        const buffer = new WordBuffer(offset + bytes.length + 9);
        buffer.bytes.fill(0xff);
        buffer.bytes.set(bytes, offset);
        assert.equal(foldChecksum(buffer.sum(offset, bytes.length)), naiveChecksum(bytes));
      }),
    );
  });

  it('does not overflow on the longest packet', () => {
    for (const offset of [0, 1]) {
      const buffer = new WordBuffer(0xffff + offset);
      buffer.bytes.fill(0xff);
      assert.equal(foldChecksum(buffer.sum(offset, 0xffff)), naiveChecksum(new Uint8Array(0xffff).fill(0xff)));
    }
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
