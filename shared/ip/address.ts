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
export function formatAddress(address: IpAddress): string {
  const bytes = addressToBytes(address);
  if (address.family === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`;
  const groups: number[] = [];
  for (let i = 0; i < bytes.length; i += 2) groups.push((bytes[i]! << 8) | bytes[i + 1]!);
  const { start, length } = longestZeros(groups);
  const hex = (part: readonly number[]) => part.map((group) => group.toString(16)).join(':');
  // RFC 5952 section 4.2: the longest run of zeros, the first of equal ones, but not a single one.
  return length < 2 ? hex(groups) : `${hex(groups.slice(0, start))}::${hex(groups.slice(start + length))}`;
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
export function addressToBytes(address: IpAddress): Uint8Array {
  const bytes = new Uint8Array(ADDRESS_BITS[address.family] / 8);
  let rest = address.value;
  // Four at a time: each step with a BigInt makes a new one.
  for (let i = bytes.length - 4; i >= 0; i -= 4) {
    const word = Number(rest & 0xffff_ffffn);
    bytes[i] = word >>> 24;
    bytes[i + 1] = word >>> 16;
    bytes[i + 2] = word >>> 8;
    bytes[i + 3] = word;
    if (i > 0) rest >>= 32n;
  }
  return bytes;
}

export function sameAddress(a: IpAddress, b: IpAddress): boolean {
  return a.family === b.family && a.value === b.value;
}

/** The one text of an address, whatever spelling it came in. Throws InvalidAddressError. */
export const canonicalAddress = remember((text) => formatAddress(parseAddress(text)), REMEMBERED);

function longestZeros(groups: readonly number[]): { start: number; length: number } {
  let longest = { start: 0, length: 0 };
  for (let start = 0, end = 0; start < groups.length; start = ++end) {
    while (groups[end] === 0) end++;
    if (end - start > longest.length) longest = { start, length: end - start };
  }
  return longest;
}
