import { updateChecksum } from './checksum.ts';
import { IPV4_CHECKSUM_OFFSET, IPV4_TTL_OFFSET, readUint16, writeUint16 } from './ipv4-header.ts';
import { IPV6_HOP_LIMIT_OFFSET } from './ipv6-header.ts';

/**
 * Lowers the TTL or hop limit of an inspected packet in place and corrects IPv4's header checksum (RFC 9484, 7.2: at encapsulation,
 * for forwarded packets only). Returns false, changing nothing, when the packet has expired: it is dropped then, with Time Exceeded.
 */
export function decrementTtl(bytes: Uint8Array, offset: number): boolean {
  if (bytes[offset]! >>> 4 === 6) {
    const hopLimit = bytes[offset + IPV6_HOP_LIMIT_OFFSET]!;
    if (hopLimit <= 1) return false;
    bytes[offset + IPV6_HOP_LIMIT_OFFSET] = hopLimit - 1;
    return true;
  }
  const ttlAt = offset + IPV4_TTL_OFFSET;
  if (bytes[ttlAt]! <= 1) return false;
  const before = readUint16(bytes, ttlAt); // TTL and protocol are one word of the checksum
  const checksumAt = offset + IPV4_CHECKSUM_OFFSET;
  writeUint16(bytes, checksumAt, updateChecksum(readUint16(bytes, checksumAt), before, before - 0x100));
  bytes[ttlAt]! -= 1;
  return true;
}
