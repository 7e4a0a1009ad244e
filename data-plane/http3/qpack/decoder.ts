import { Http3ConnectionError, QPACK_DECOMPRESSION_FAILED } from '../error-codes.ts';
import { type FieldLine, fieldLineSize } from './field-line.ts';
import { STATIC_TABLE } from './static-table.ts';
import { type Cursor, readPrefixedInteger, readPrefixedString } from './string-coding.ts';

/**
 * The field lines of an encoded field section (RFC 9204 4.5), or 'too-large' when they count more than `maxSize` bytes
 * (RFC 9114 4.2.2). We announce a dynamic table of capacity 0, so any reference to it, and a static index that does
 * not exist, is a connection error; everything else that is broken concerns this section alone and is a stream error.
 * Both carry QPACK_DECOMPRESSION_FAILED.
 */
export function decodeFieldSection(bytes: Uint8Array, maxSize: number): FieldLine[] | 'too-large' {
  const cursor: Cursor = { bytes, offset: 0 };
  if (readPrefixedInteger(cursor, 8) !== 0) throw dynamicReference('a required insert count');
  const signBit = (bytes[cursor.offset] ?? 0) & 0x80;
  readPrefixedInteger(cursor, 7);
  if (signBit !== 0) throw dynamicReference('a negative base');

  const lines: FieldLine[] = [];
  let size = 0;
  while (cursor.offset < bytes.length) {
    const line = readFieldLine(cursor);
    size += fieldLineSize(line[0], line[1]);
    if (size > maxSize) return 'too-large';
    lines.push(line);
  }
  return lines;
}

function readFieldLine(cursor: Cursor): FieldLine {
  const first = cursor.bytes[cursor.offset]!;
  if (first & 0x80) {
    if (!(first & 0x40)) throw dynamicReference('an indexed field line');
    return staticLine(readPrefixedInteger(cursor, 6));
  }
  if (first & 0x40) {
    if (!(first & 0x10)) throw dynamicReference('a name reference');
    const [name] = staticLine(readPrefixedInteger(cursor, 4));
    return [name, readPrefixedString(cursor, 7)];
  }
  if (first & 0x20) {
    const name = readPrefixedString(cursor, 3);
    return [name, readPrefixedString(cursor, 7)];
  }
  throw dynamicReference('a post-base index');
}

function staticLine(index: number): FieldLine {
  const line = STATIC_TABLE[index];
  if (line === undefined) throw failed(`static index ${index} does not exist, the last is ${STATIC_TABLE.length - 1}`);
  return line;
}

function dynamicReference(what: string): Http3ConnectionError {
  return failed(`${what} refers to the dynamic table, whose capacity is 0`);
}

function failed(why: string): Http3ConnectionError {
  return new Http3ConnectionError(QPACK_DECOMPRESSION_FAILED, `field section: ${why}`);
}
