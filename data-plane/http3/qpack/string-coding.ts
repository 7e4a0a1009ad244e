/** Integers and strings with an N-bit prefix: RFC 7541 5.1 and 5.2, as RFC 9204 4.1 takes them over. */
import { Http3StreamError, QPACK_DECOMPRESSION_FAILED } from '../error-codes.ts';
import { huffmanLength, readHuffman, writeHuffman } from './huffman.ts';

/** Integers up to 62 bits must be understood (RFC 9204 4.1.1); longer ones are refused. */
const MAX_INTEGER_BITS = 62;

/** A position in encoded bytes that reading moves on. */
export interface Cursor {
  readonly bytes: Uint8Array;
  offset: number;
}

export function decompressionFailed(why: string): Http3StreamError {
  return new Http3StreamError(QPACK_DECOMPRESSION_FAILED, `field section: ${why}`);
}

/** The integer whose prefix is the low bits of the next byte. Inexact above 2^53. Throws QPACK_DECOMPRESSION_FAILED. */
export function readPrefixedInteger(cursor: Cursor, prefixBits: number): number {
  const { bytes } = cursor;
  if (cursor.offset >= bytes.length) throw decompressionFailed('ends inside a field line');
  const mask = (1 << prefixBits) - 1;
  let value = bytes[cursor.offset++]! & mask;
  if (value < mask) return value;
  for (let shift = 0; ; shift += 7) {
    if (cursor.offset >= bytes.length) throw decompressionFailed('ends inside an integer');
    const byte = bytes[cursor.offset++]!;
    const part = byte & 0x7f;
    // 9 continuation bytes carry 63 bits; the sum is compared in floating point, which is exact enough for a limit.
    if (shift >= MAX_INTEGER_BITS || part * 2 ** shift >= 2 ** MAX_INTEGER_BITS) {
      throw decompressionFailed(`an integer has more than ${MAX_INTEGER_BITS} bits`);
    }
    value += part * 2 ** shift;
    if (byte < 0x80) return value;
  }
}

/** The string whose Huffman flag is the bit above the length prefix. Throws QPACK_DECOMPRESSION_FAILED. */
export function readPrefixedString(cursor: Cursor, prefixBits: number): string {
  const { bytes } = cursor;
  const isHuffman = cursor.offset < bytes.length && (bytes[cursor.offset]! & (1 << prefixBits)) !== 0;
  const length = readPrefixedInteger(cursor, prefixBits);
  const start = cursor.offset;
  if (length > bytes.length - start) throw decompressionFailed(`a string of ${length} bytes is longer than its frame`);
  cursor.offset = start + length;
  if (isHuffman) {
    const text = readHuffman(bytes, start, cursor.offset);
    if (text === undefined) throw decompressionFailed('a Huffman string has EOS or wrong padding');
    return text;
  }
  return readLatin1(bytes, start, cursor.offset);
}

/** Appends an integer; `firstByte` carries the bits above the prefix. */
export function pushPrefixedInteger(out: number[], firstByte: number, prefixBits: number, value: number): void {
  const mask = (1 << prefixBits) - 1;
  if (value < mask) {
    out.push(firstByte | value);
    return;
  }
  out.push(firstByte | mask);
  let rest = value - mask;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) out.push((rest % 0x80) | 0x80);
  out.push(rest);
}

/** Appends a string of one character per byte, in Huffman code where that is shorter. */
export function pushPrefixedString(out: number[], firstByte: number, prefixBits: number, text: string): void {
  const coded = huffmanLength(text);
  if (coded < text.length) {
    const bytes = new Uint8Array(coded);
    writeHuffman(bytes, 0, text);
    pushPrefixedInteger(out, firstByte | (1 << prefixBits), prefixBits, coded);
    for (const byte of bytes) out.push(byte);
    return;
  }
  pushPrefixedInteger(out, firstByte, prefixBits, text.length);
  for (let i = 0; i < text.length; i++) out.push(text.charCodeAt(i));
}

function readLatin1(bytes: Uint8Array, start: number, end: number): string {
  let text = '';
  for (let i = start; i < end; i++) text += String.fromCharCode(bytes[i]!);
  return text;
}
