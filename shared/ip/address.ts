import ipaddr from 'ipaddr.js';
import { CodedError } from '../errors.ts';

export type AddressFamily = 4 | 6;

/** One IP address as a number: 32 bits for family 4, 128 bits for family 6. */
export interface IpAddress {
  readonly family: AddressFamily;
  readonly value: bigint;
}

/** Bits of an address of each family. */
export const ADDRESS_BITS: Readonly<Record<AddressFamily, number>> = { 4: 32, 6: 128 };

export class InvalidAddressError extends CodedError {
  constructor(text: string, why: string) {
    super('INVALID_ADDRESS', `"${text}" is not an IP address: ${why}`);
  }
}

/** Parses the four-part decimal form of IPv4 or any RFC 4291 form of IPv6; no zone ids. Throws InvalidAddressError. */
export function parseAddress(text: string): IpAddress {
  if (text.includes('%')) throw new InvalidAddressError(text, 'zone ids are not allowed');
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return addressFromBytes(ipaddr.IPv4.parse(text).toByteArray());
  if (ipaddr.IPv6.isValid(text)) return addressFromBytes(ipaddr.IPv6.parse(text).toByteArray());
  throw new InvalidAddressError(text, 'expected something like 10.99.0.1 or fd00:99::1');
}

/** The canonical text of an address: dotted decimal, or RFC 5952 for IPv6. */
export function formatAddress(address: IpAddress): string {
  const bytes = [...addressToBytes(address)];
  return address.family === 4 ? new ipaddr.IPv4(bytes).toString() : new ipaddr.IPv6(bytes).toRFC5952String();
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
  for (let i = bytes.length - 1; i >= 0; i--) {
    bytes[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return bytes;
}

export function sameAddress(a: IpAddress, b: IpAddress): boolean {
  return a.family === b.family && a.value === b.value;
}

/** The one text of an address, whatever spelling it came in. Throws InvalidAddressError. */
export function canonicalAddress(text: string): string {
  return formatAddress(parseAddress(text));
}
