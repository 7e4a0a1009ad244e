import fc from 'fast-check';
import { ADDRESS_BITS, addressFromBytes, type IpAddress } from '../../../shared/ip/address.ts';
import type { IpPrefix } from '../../../shared/ip/prefix.ts';
import { hostile } from '../../support/fuzz.ts';

export const anyAddress: fc.Arbitrary<IpAddress> = fc
  .tuple(fc.constantFrom(4, 16), fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.nat(16))
  .map(([length, bytes, zeros]) => addressFromBytes(bytes.fill(0, 0, zeros).subarray(0, length)));
export const anyPrefix = fc.tuple(anyAddress, fc.nat(128)).map(([{ family, value }, wanted]): IpPrefix => {
  const length = Math.min(wanted, ADDRESS_BITS[family]);
  const host = BigInt(ADDRESS_BITS[family] - length);
  return { address: { family, value: (value >> host) << host }, length };
});
const asText = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
const asBytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'latin1'));
/** Texts like these, nearly like these, and any others. */
export const near = (texts: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.oneof(hostile(texts.map(asBytes), 50).map(asText), fc.string());
