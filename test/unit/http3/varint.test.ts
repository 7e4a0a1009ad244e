import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  encodeVarint,
  MAX_VARINT,
  readBigVarint,
  readVarint,
  VARINT_TRUNCATED,
  varintLength,
  writeVarint,
} from '../../../data-plane/http3/varint.ts';

const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'));

test('the examples of RFC 9000 A.1 are read, also the non-minimal one', () => {
  const examples: [string, bigint][] = [
    ['c2197c5eff14e88c', 151288809941952652n],
    ['9d7f3e7d', 494878333n],
    ['7bbd', 15293n],
    ['25', 37n],
    ['4025', 37n],
  ];
  for (const [hex, exact] of examples) {
    const encoded = bytes(hex);
    assert.equal(readBigVarint(encoded, 0, encoded.length), exact);
    const expected = exact > BigInt(Number.MAX_SAFE_INTEGER) ? Number.POSITIVE_INFINITY : Number(exact);
    assert.equal(readVarint(encoded, 0, encoded.length), expected);
  }
});

test('2^53 - 1 is exact and 2^53 is Infinity', () => {
  const encoded = encodeVarint(Number.MAX_SAFE_INTEGER);
  assert.equal(readVarint(encoded, 0, 8), Number.MAX_SAFE_INTEGER);
  assert.equal(readVarint(encodeVarint(2n ** 53n), 0, 8), Number.POSITIVE_INFINITY);
  assert.equal(readVarint(encodeVarint(MAX_VARINT), 0, 8), Number.POSITIVE_INFINITY);
});

test('values outside 0 to 2^62 - 1 are refused by the writer', () => {
  for (const value of [-1, 2n ** 62n, Number.POSITIVE_INFINITY, Number.NaN]) {
    assert.throws(() => encodeVarint(value), RangeError);
  }
});

test('every value survives writing and reading at any offset, and every proper prefix is truncated', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: MAX_VARINT }), fc.nat(9), (value, offset) => {
      const target = new Uint8Array(offset + 8);
      const length = writeVarint(target, offset, value);
      assert.equal(varintLength(target[offset]!), length);
      assert.equal(readBigVarint(target, offset, offset + length), value);
      const exact = value <= BigInt(Number.MAX_SAFE_INTEGER);
      assert.equal(readVarint(target, offset, offset + length), exact ? Number(value) : Number.POSITIVE_INFINITY);
      for (let end = offset; end < offset + length; end++) {
        assert.equal(readVarint(target, offset, end), VARINT_TRUNCATED);
        assert.equal(readBigVarint(target, offset, end), undefined);
      }
    }),
  );
});
