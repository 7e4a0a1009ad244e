import { internetChecksum } from './checksum.ts';
import type { PacketInfo } from './packet-info.ts';
import type { PacketVerdict } from './packet-verdict.ts';

/** Bytes of the header without options. */
export const IPV4_HEADER_BYTES = 20;
export const IPV4_CHECKSUM_OFFSET = 10;
export const IPV4_SOURCE_OFFSET = 12;
export const IPV4_DESTINATION_OFFSET = 16;

const MORE_FRAGMENTS = 0x2000;
const FRAGMENT_OFFSET = 0x1fff;

/** Validates an IPv4 packet (RFC 791); called by `inspectPacket`, which has checked the range and the version. */
export function inspectIpv4(bytes: Uint8Array, offset: number, length: number, out: PacketInfo): PacketVerdict {
  if (length < IPV4_HEADER_BYTES) return 'truncated';
  const headerLength = (bytes[offset]! & 0x0f) * 4;
  if (headerLength < IPV4_HEADER_BYTES || headerLength > length) return 'bad_header_length';
  if (readUint16(bytes, offset + 2) !== length) return 'bad_total_length';
  const flags = readUint16(bytes, offset + 6);
  out.family = 4;
  out.headerLength = headerLength;
  out.totalLength = length;
  out.protocol = bytes[offset + 9]!;
  out.sourceOffset = IPV4_SOURCE_OFFSET;
  out.destinationOffset = IPV4_DESTINATION_OFFSET;
  out.addressLength = 4;
  out.laterFragment = (flags & FRAGMENT_OFFSET) !== 0;
  out.fragment = (flags & (FRAGMENT_OFFSET | MORE_FRAGMENTS)) !== 0;
  return 'ok';
}

/** Computes the header checksum of a packet whose header is complete. */
export function writeIpv4Checksum(bytes: Uint8Array, offset: number): void {
  writeUint16(bytes, offset + IPV4_CHECKSUM_OFFSET, 0);
  const checksum = internetChecksum(bytes, offset, (bytes[offset]! & 0x0f) * 4);
  writeUint16(bytes, offset + IPV4_CHECKSUM_OFFSET, checksum);
}

export function readUint16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 8) | bytes[offset + 1]!;
}

export function writeUint16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 8;
  bytes[offset + 1] = value;
}
