import type { FieldLine } from './field-line.ts';
import { staticLineIndex, staticNameIndex } from './static-table.ts';
import { pushPrefixedInteger, pushPrefixedString } from './string-coding.ts';

/** Values that intermediaries must never put into a dynamic table, where compression could leak them (RFC 9204 7.1.3). */
const NEVER_INDEXED: ReadonlySet<string> = new Set(['authorization', 'proxy-authorization', 'cookie', 'set-cookie']);

/**
 * An encoded field section that needs no dynamic table: required insert count 0, base 0, static and literal field
 * lines only (RFC 9204 4.5). A path with a query is never indexed either, since it can carry a token.
 */
export function encodeFieldSection(lines: readonly FieldLine[]): Uint8Array {
  const out: number[] = [0, 0];
  for (const [name, value] of lines) {
    const lineIndex = staticLineIndex(name, value);
    if (lineIndex !== undefined) {
      pushPrefixedInteger(out, 0xc0, 6, lineIndex);
      continue;
    }
    const isSecret = NEVER_INDEXED.has(name) || (name === ':path' && value.includes('?'));
    const nameIndex = staticNameIndex(name);
    if (nameIndex !== undefined) pushPrefixedInteger(out, isSecret ? 0x70 : 0x50, 4, nameIndex);
    else pushPrefixedString(out, isSecret ? 0x30 : 0x20, 3, name);
    pushPrefixedString(out, 0x00, 7, value);
  }
  return Uint8Array.from(out);
}
