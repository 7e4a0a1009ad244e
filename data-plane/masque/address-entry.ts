import {
  ADDRESS_BITS,
  type AddressFamily,
  addressFromBytes,
  addressToBytes,
  type IpAddress,
} from '../../shared/ip/address.ts';
import { type IpPrefix, prefixContains } from '../../shared/ip/prefix.ts';
import { encodedVarintLength, readBigVarint, varintLength, writeVarint } from '../http3/varint.ts';
import { malformedCapsule } from './capsule.ts';

/** The entry that ADDRESS_ASSIGN and ADDRESS_REQUEST share: request id, version, address, prefix length (RFC 9484 4.7). */
export interface AddressEntry {
  /** Exact up to 2^62 - 1, since an answer must echo it. */
  readonly requestId: bigint;
  readonly prefix: IpPrefix;
}

/** All entries of a capsule value. Throws H3_MESSAGE_ERROR for a bad version or prefix, host bits, or a cut-off entry. */
export function parseAddressEntries(capsuleName: string, value: Uint8Array): AddressEntry[] {
  const entries: AddressEntry[] = [];
  let offset = 0;
  while (offset < value.length) {
    const requestId = readBigVarint(value, offset, value.length);
    if (requestId === undefined) throw malformedCapsule(`${capsuleName} ends inside a request id`);
    offset += varintLength(value[offset]!);
    const address = readAddress(capsuleName, value, offset + 1, readFamily(capsuleName, value, offset));
    offset += 1 + ADDRESS_BITS[address.family] / 8;
    if (offset >= value.length) throw malformedCapsule(`${capsuleName} ends before a prefix length`);
    const prefix = { address, length: value[offset++]! };
    checkPrefix(capsuleName, prefix);
    entries.push({ requestId, prefix });
  }
  return entries;
}

/** The IP version byte at `offset`. Throws H3_MESSAGE_ERROR unless it is there and 4 or 6. */
export function readFamily(capsuleName: string, value: Uint8Array, offset: number): AddressFamily {
  const version = value[offset];
  if (version === undefined) throw malformedCapsule(`${capsuleName} ends before an IP version`);
  if (version !== 4 && version !== 6)
    throw malformedCapsule(`${capsuleName} has IP version ${version}, expected 4 or 6`);
  return version;
}

/** The address at `offset`. Throws H3_MESSAGE_ERROR when it is cut off. */
export function readAddress(capsuleName: string, value: Uint8Array, offset: number, family: AddressFamily): IpAddress {
  const end = offset + ADDRESS_BITS[family] / 8;
  if (end > value.length) throw malformedCapsule(`${capsuleName} ends inside an address`);
  return addressFromBytes(value.subarray(offset, end));
}

/** A capsule value from entries. */
export function encodeAddressEntries(entries: readonly AddressEntry[]): Uint8Array {
  const parts = entries.map(({ requestId, prefix }) => {
    const address = addressToBytes(prefix.address);
    const idLength = encodedVarintLength(requestId);
    const bytes = new Uint8Array(idLength + 1 + address.length + 1);
    writeVarint(bytes, 0, requestId);
    bytes[idLength] = prefix.address.family;
    bytes.set(address, idLength + 1);
    bytes[bytes.length - 1] = prefix.length;
    return bytes;
  });
  return concatBytes(parts);
}

export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

function checkPrefix(capsuleName: string, prefix: IpPrefix): void {
  const bits = ADDRESS_BITS[prefix.address.family];
  if (prefix.length > bits)
    throw malformedCapsule(`${capsuleName} has prefix length ${prefix.length}, at most ${bits}`);
  if (!prefixContains(prefix, prefix.address)) throw malformedCapsule(`${capsuleName} has a prefix with host bits set`);
}
