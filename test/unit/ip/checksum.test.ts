import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { foldChecksum, internetChecksum, sumWords } from '../../../data-plane/ip/checksum.ts';
import { WordBuffer } from '../../../data-plane/ip/word-buffer.ts';
import { naiveChecksum } from './naive-checksum.ts';
import { embed } from './sample-packets.ts';

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
