import { describeValue } from '../describe-value.ts';
import { CodedError } from '../errors.ts';
import { ADDRESS_BITS, formatAddress, type IpAddress, parseAddress } from './address.ts';
import { remember } from './remember.ts';

/** Ours: more blocks than a thousand nodes hold. */
const REMEMBERED = 16_384;

/** A network: its first address and the number of leading bits that all its addresses share. Host bits are zero. */
export interface IpPrefix {
  readonly address: IpAddress;
  readonly length: number;
}

export class InvalidPrefixError extends CodedError {
  /** What is wrong with it, e.g. "host bits are set". */
  readonly why: string;

  constructor(text: string, why: string) {
    super('INVALID_PREFIX', `${describeValue(text)} is not an IP prefix: ${why}`);
    this.why = why;
  }
}

/** Parses `address/length`, e.g. `10.99.0.0/16`. Throws InvalidPrefixError, also when host bits are set. */
export const parsePrefix = remember(readPrefix, REMEMBERED);

function readPrefix(text: string): IpPrefix {
  const slash = text.indexOf('/');
  if (slash < 0) throw new InvalidPrefixError(text, 'expected something like 10.99.0.0/16 or fd00:99::/64');
  let address: IpAddress;
  try {
    address = parseAddress(text.slice(0, slash));
  } catch {
    throw new InvalidPrefixError(text, 'the part before "/" is not an IP address');
  }
  const digits = text.slice(slash + 1);
  const length = Number(digits);
  if (!/^\d{1,3}$/.test(digits) || length > ADDRESS_BITS[address.family]) {
    throw new InvalidPrefixError(text, `the length must be 0 to ${ADDRESS_BITS[address.family]}`);
  }
  if ((address.value & hostMask(address.family, length)) !== 0n)
    throw new InvalidPrefixError(text, 'host bits are set');
  return { address, length };
}

export function formatPrefix(prefix: IpPrefix): string {
  return `${formatAddress(prefix.address)}/${prefix.length}`;
}

/** The one text of a prefix, whatever spelling it came in. Throws InvalidPrefixError. */
export const canonicalPrefix = remember((text) => formatPrefix(parsePrefix(text)), REMEMBERED);

/** The prefix that holds this one address only: /32 or /128. */
export function hostPrefix(address: IpAddress): IpPrefix {
  return { address, length: ADDRESS_BITS[address.family] };
}

/** Whether it holds one address only. */
export function isHostPrefix(prefix: IpPrefix): boolean {
  return prefix.length === ADDRESS_BITS[prefix.address.family];
}

/** How many addresses a prefix has. */
export function prefixSize(prefix: IpPrefix): bigint {
  return 1n << BigInt(ADDRESS_BITS[prefix.address.family] - prefix.length);
}

/** The highest address of a prefix. */
export function lastAddress(prefix: IpPrefix): IpAddress {
  const { family, value } = prefix.address;
  return { family, value: value | hostMask(family, prefix.length) };
}

export function prefixContains(prefix: IpPrefix, address: IpAddress): boolean {
  const { family, value } = prefix.address;
  return family === address.family && (address.value & ~hostMask(family, prefix.length)) === value;
}

/** Whether every address of `inner` is one of `outer`. */
export function prefixCovers(outer: IpPrefix, inner: IpPrefix): boolean {
  return inner.length >= outer.length && prefixContains(outer, inner.address);
}

/** The prefix of `length` bits, at most its own, that a prefix is a part of. */
export function prefixAround({ address: { family, value } }: IpPrefix, length: number): IpPrefix {
  return { address: { family, value: value & ~hostMask(family, length) }, length };
}

export function prefixesOverlap(a: IpPrefix, b: IpPrefix): boolean {
  return prefixCovers(a, b) || prefixCovers(b, a);
}

function hostMask(family: IpAddress['family'], length: number): bigint {
  return (1n << BigInt(ADDRESS_BITS[family] - length)) - 1n;
}
