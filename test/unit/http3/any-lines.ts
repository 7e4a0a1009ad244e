import fc from 'fast-check';
import type { FieldLine } from '../../../data-plane/http3/qpack/field-line.ts';

export const latin1 = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString('latin1'));
const anyName = fc.oneof(
  latin1,
  fc.constantFrom(':method', ':path', ':status', ':protocol', ':scheme', ':authority', 'te', 'host', 'cookie'),
  fc.constantFrom('content-length', 'authorization', '__proto__', 'constructor', ':constructor', 'connection', 'x-own'),
);
const anyValue = fc.oneof(latin1, fc.constantFrom('', 'CONNECT', 'connect-ip', 'https', '/', '200', '101', '0', '1'));
const anyLine: fc.Arbitrary<FieldLine> = fc.tuple(anyName, anyValue);
/** Field lines, of names and values that mean something and of any others. */
export const anyLines = fc.array(anyLine, { maxLength: 8 });
