/** QUIC variable-length integers (RFC 9000 16). The readers allocate nothing: they run for every datagram. */

/** `readVarint` found fewer bytes than the first byte announces. */
export const VARINT_TRUNCATED = -1;

/** The largest value a varint can carry: 2^62 - 1. */
export const MAX_VARINT = (1n << 62n) - 1n;

/** Bytes of the longest varint. */
export const MAX_VARINT_BYTES = 8;

/** How many bytes (1, 2, 4 or 8) the varint that starts with this byte has. */
export function varintLength(firstByte: number): number {
  return 1 << (firstByte >> 6);
}

/**
 * The varint at `offset`, not reading at or beyond `end`. VARINT_TRUNCATED when it is cut off; Infinity when it is
 * above 2^53 - 1, so that every comparison with a limit rejects it. Longer encodings than necessary are legal.
 */
export function readVarint(bytes: Uint8Array, offset: number, end: number): number {
  if (offset >= end) return VARINT_TRUNCATED;
  const first = bytes[offset]!;
  const length = 1 << (first >> 6);
  if (offset + length > end) return VARINT_TRUNCATED;
  if (length === 1) return first;
  if (length === 2) return ((first & 0x3f) << 8) | bytes[offset + 1]!;
  const high = (((first & 0x3f) << 24) | (bytes[offset + 1]! << 16) | (bytes[offset + 2]! << 8)) + bytes[offset + 3]!;
  if (length === 4) return high;
  if (high > 0x1fffff) return Number.POSITIVE_INFINITY;
  const low =
    bytes[offset + 4]! * 0x1000000 + ((bytes[offset + 5]! << 16) | (bytes[offset + 6]! << 8) | bytes[offset + 7]!);
  return high * 0x1_0000_0000 + low;
}

/** Like `readVarint`, exact up to 2^62 - 1, or undefined when it is cut off. For identifiers that must be echoed. */
export function readBigVarint(bytes: Uint8Array, offset: number, end: number): bigint | undefined {
  if (offset >= end) return undefined;
  const length = varintLength(bytes[offset]!);
  if (offset + length > end) return undefined;
  let value = BigInt(bytes[offset]! & 0x3f);
  for (let i = 1; i < length; i++) value = (value << 8n) | BigInt(bytes[offset + i]!);
  return value;
}

/** How many bytes the shortest encoding of a value has. Throws RangeError outside 0 to 2^62 - 1. */
export function encodedVarintLength(value: number | bigint): number {
  if (value < 0 || value > MAX_VARINT || Number.isNaN(value)) {
    throw new RangeError(`${value} is not a varint: expected 0 to 2^62 - 1`);
  }
  if (value < 0x40) return 1;
  if (value < 0x4000) return 2;
  return value < 0x4000_0000 ? 4 : 8;
}

/** Writes the shortest encoding at `offset` and answers its length in bytes. The caller provides the room. */
export function writeVarint(target: Uint8Array, offset: number, value: number | bigint): number {
  const length = encodedVarintLength(value);
  if (length === 8) {
    let rest = BigInt(value);
    for (let i = 7; i >= 0; i--) {
      target[offset + i] = Number(rest & 0xffn);
      rest >>= 8n;
    }
    target[offset] = target[offset]! | 0xc0;
    return 8;
  }
  let rest = Number(value);
  for (let i = length - 1; i >= 0; i--) {
    target[offset + i] = rest & 0xff;
    rest >>>= 8;
  }
  target[offset] = target[offset]! | (length === 1 ? 0 : length === 2 ? 0x40 : 0x80);
  return length;
}

/** The shortest encoding of a value. */
export function encodeVarint(value: number | bigint): Uint8Array {
  const bytes = new Uint8Array(encodedVarintLength(value));
  writeVarint(bytes, 0, value);
  return bytes;
}
