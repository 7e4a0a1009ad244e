import ipaddr from 'ipaddr.js';
import { CodedError } from '../errors.ts';
import { remember } from './remember.ts';

export type AddressFamily = 4 | 6;

/** One IP address as a number: 32 bits for family 4, 128 bits for family 6. */
export interface IpAddress {
  readonly family: AddressFamily;
  readonly value: bigint;
}

/** Bits of an address of each family. */
export const ADDRESS_BITS: Readonly<Record<AddressFamily, number>> = { 4: 32, 6: 128 };

/** Ours: texts whose one spelling is remembered, 200 bytes each; each address that is in use comes four times with its tunnel. */
const REMEMBERED = 65_536;
/** Of 16 bits, in an IPv6 address. */
const GROUPS = 8;
/** An address on its way to text or bytes. */
const words = new DataView(new ArrayBuffer(16));
const EXPECTED = 'expected something like 10.99.0.1 or fd00:99::1';

export class InvalidAddressError extends CodedError {
  constructor(text: string, why: string, options?: { cause?: unknown }) {
    super('INVALID_ADDRESS', `"${text}" is not an IP address: ${why}`, options);
  }
}

/** Parses the four-part decimal form of IPv4 or any RFC 4291 form of IPv6; no zone ids. Throws InvalidAddressError. */
export function parseAddress(text: string): IpAddress {
  if (text.includes('%')) throw new InvalidAddressError(text, 'zone ids are not allowed');
  try {
    // Asked whether an IPv6 address is one of IPv4, the library throws and catches an error, which takes longer than all the rest.
    if (text.includes(':')) return addressFromBytes(ipaddr.IPv6.parse(text).toByteArray());
    if (ipaddr.IPv4.isValidFourPartDecimal(text)) return addressFromBytes(text.split('.').map(Number));
  } catch (cause) {
    throw new InvalidAddressError(text, EXPECTED, { cause });
  }
  throw new InvalidAddressError(text, EXPECTED);
}

/** The canonical text of an address: dotted decimal, or RFC 5952 for IPv6. */
export function formatAddress({ family, value }: IpAddress): string {
  if (family === 4) {
    const bits = Number(value);
    return `${bits >>> 24}.${(bits >>> 16) & 0xff}.${(bits >>> 8) & 0xff}.${bits & 0xff}`;
  }
  putInWords(value);
  const { start, length } = longestZeros();
  let text = '';
  for (let group = 0; group < GROUPS; group++) {
    // RFC 5952 section 4.2: the longest run of zeros, the first of equal ones, but not a single one.
    if (group === start && length > 1) {
      text += '::';
      group += length - 1;
    } else {
      if (text !== '' && !text.endsWith('::')) text += ':';
      text += groupAt(group).toString(16);
    }
  }
  return text;
}

/** An address from its 4 or 16 bytes in network order. Throws InvalidAddressError on any other length. */
export function addressFromBytes(bytes: ArrayLike<number>): IpAddress {
  if (bytes.length !== 4 && bytes.length !== 16) {
    throw new InvalidAddressError(Array.from(bytes).join(','), `${bytes.length} bytes, expected 4 or 16`);
  }
  let value = 0n;
  for (let i = 0; i < bytes.length; i++) value = (value << 8n) | BigInt(bytes[i] ?? 0);
  return { family: bytes.length === 4 ? 4 : 6, value };
}

/** The 4 or 16 bytes of an address in network order. */
export function addressToBytes({ family, value }: IpAddress): Uint8Array {
  putInWords(value);
  return new Uint8Array(words.buffer.slice(words.byteLength - ADDRESS_BITS[family] / 8));
}

export function sameAddress(a: IpAddress, b: IpAddress): boolean {
  return a.family === b.family && a.value === b.value;
}

/** The one text of an address, whatever spelling it came in. Throws InvalidAddressError. */
export const canonicalAddress = remember((text) => formatAddress(parseAddress(text)), REMEMBERED);

/** At the end of `words`; each step with a BigInt would make a new one. */
function putInWords(value: bigint): void {
  words.setBigUint64(0, value >> 64n);
  words.setBigUint64(8, value);
}

function groupAt(index: number): number {
  return words.getUint16(2 * index);
}

function longestZeros(): { start: number; length: number } {
  let longest = { start: 0, length: 0 };
  for (let start = 0, end = 0; start < GROUPS; start = ++end) {
    while (end < GROUPS && groupAt(end) === 0) end++;
    if (end - start > longest.length) longest = { start, length: end - start };
  }
  return longest;
}
