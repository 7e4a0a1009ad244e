import { copyBytes } from '../os/copy-bytes.ts';
import { isLimitedBroadcast, isMulticast, isUnicastHost } from './address-key.ts';
import { ICMP_HEADER_BYTES, writeIcmpChecksum } from './icmp-checksum.ts';
import { writeUint16 } from './ipv4-header.ts';
import type { PacketInfo } from './packet-info.ts';
import { PROTOCOL } from './protocol.ts';
import { ipHeaderBytes, writeIpHeader } from './write-ip-header.ts';

/**
 * Why a packet is refused, as far as its sender is told by us; the kernel, which forwards, tells of an expired TTL.
 * - `no_route`: its destination is outside of the routes
 * - `address_unreachable`: its destination is ours to reach, and nobody has it
 * - `protocol_prohibited`: its protocol is outside of the routes, or something else forbids it
 * - `source_prohibited`: its source is not one that was assigned to the sender
 * - `too_big`: it is longer than the link's MTU
 */
export type IcmpProblem = 'no_route' | 'address_unreachable' | 'protocol_prohibited' | 'source_prohibited' | 'too_big';

/** Type and code, in the upper and lower byte: RFC 792, RFC 1812 5.2.7.1, RFC 4443 3; RFC 9484 7.2.1 and 10.1 for which applies. */
const TYPE_AND_CODE = {
  4: {
    no_route: 0x0300,
    address_unreachable: 0x0301,
    protocol_prohibited: 0x030d,
    source_prohibited: 0x030d,
    too_big: 0x0304,
  },
  6: {
    no_route: 0x0100,
    address_unreachable: 0x0103,
    protocol_prohibited: 0x0101,
    source_prohibited: 0x0105,
    too_big: 0x0200,
  },
} as const satisfies Record<4 | 6, Record<IcmpProblem, number>>;

/** Bytes of the longest error: RFC 1812, 4.3.2.3 for IPv4; the least IPv6 MTU (RFC 4443, 2.4 c) for IPv6. */
export const MAX_ICMP_ERROR_BYTES = { 4: 576, 6: 1280 } as const;

/** TTL of our own packets, and the precedence of ICMPv4 errors (RFC 1812, 4.3.2.5). */
const ERROR_TTL = 64;
const INTERNETWORK_CONTROL = 0xc0;

/** ICMPv4 types that are errors: unreachable, source quench, redirect, time exceeded, parameter problem. */
const ICMPV4_ERRORS: readonly number[] = [3, 4, 5, 11, 12];
/** ICMPv6 types below this are errors, and redirects count as such (RFC 4443, 2.1 and 2.4 e). */
const FIRST_ICMPV6_INFORMATIONAL = 128;
const ICMPV6_REDIRECT = 137;

/** Where the error about a packet is written; it must not overlap the packet. */
export interface IcmpErrorRequest {
  readonly problem: IcmpProblem;
  /** Our own address of the packet's family, 4 or 16 bytes. */
  readonly from: Uint8Array;
  /** For `too_big`: what would have fitted, in bytes. */
  readonly mtu?: number;
}

/**
 * Writes the whole packet that tells the sender of an inspected packet what was wrong with it, quoting as much of it as allowed, and
 * returns its length; 0 when the packet is one that no error may be sent about. Throws RangeError without room. Limiting the rate
 * is the caller's.
 */
export function writeIcmpError(
  out: Uint8Array,
  outOffset: number,
  request: IcmpErrorRequest,
  bytes: Uint8Array,
  offset: number,
  info: PacketInfo,
): number {
  if (!mayAnswerWithError(bytes, offset, info)) return 0;
  const { family } = info;
  const quoteRoom = MAX_ICMP_ERROR_BYTES[family] - ipHeaderBytes(info.addressLength) - ICMP_HEADER_BYTES;
  const quoted = Math.min(info.totalLength, quoteRoom);
  const header = {
    source: request.from,
    destination: bytes.subarray(offset + info.sourceOffset, offset + info.sourceOffset + info.addressLength),
    protocol: family === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6,
    ttl: ERROR_TTL,
    trafficClass: family === 4 ? INTERNETWORK_CONTROL : 0,
  };
  const headerLength = writeIpHeader(out, outOffset, header, ICMP_HEADER_BYTES + quoted);
  const icmp = outOffset + headerLength;
  writeUint16(out, icmp, TYPE_AND_CODE[family][request.problem]);
  const mtu = request.problem === 'too_big' ? (request.mtu ?? 0) : 0;
  // ICMPv4 has 16 bits for the MTU, at the end of the field (RFC 1191, 4); ICMPv6 has all 32.
  writeUint16(out, icmp + 4, family === 6 ? mtu >>> 16 : 0);
  writeUint16(out, icmp + 6, mtu & 0xffff);
  copyBytes(bytes, offset, out, icmp + ICMP_HEADER_BYTES, quoted);
  writeIcmpChecksum(out, outOffset, headerLength, ICMP_HEADER_BYTES + quoted);
  return headerLength + ICMP_HEADER_BYTES + quoted;
}

/**
 * Whether an error may be sent about an inspected packet (RFC 1122 3.2.2, RFC 4443 2.4 e): not about an ICMP error, not to or about a
 * group of hosts, not about a later fragment.
 */
export function mayAnswerWithError(bytes: Uint8Array, offset: number, info: PacketInfo): boolean {
  if (info.laterFragment) return false;
  const destination = offset + info.destinationOffset;
  if (isMulticast(bytes, destination, info.addressLength)) return false;
  if (isLimitedBroadcast(bytes, destination, info.addressLength)) return false;
  if (!isUnicastHost(bytes, offset + info.sourceOffset, info.addressLength)) return false;
  return !isIcmpError(bytes, offset, info);
}

function isIcmpError(bytes: Uint8Array, offset: number, info: PacketInfo): boolean {
  if (info.protocol !== (info.family === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6)) return false;
  if (info.headerLength >= info.totalLength) return true; // no type to look at: as if
  const type = bytes[offset + info.headerLength]!;
  return info.family === 4
    ? ICMPV4_ERRORS.includes(type)
    : type < FIRST_ICMPV6_INFORMATIONAL || type === ICMPV6_REDIRECT;
}
