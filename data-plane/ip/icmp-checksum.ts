import { internetChecksum, pseudoHeaderSumV6 } from './checksum.ts';
import { writeUint16 } from './ipv4-header.ts';
import { PROTOCOL } from './protocol.ts';

/** Bytes of the header that all ICMP messages here have: type, code, checksum and 4 bytes that depend on the type. */
export const ICMP_HEADER_BYTES = 8;

/**
 * The checksum over an ICMP message of `length` bytes at `headerLength` in the packet at `offset`; ICMPv6's includes the pseudo-header
 * (RFC 4443, 2.3). With the field filled in it is 0.
 */
export function icmpChecksum(bytes: Uint8Array, offset: number, headerLength: number, length: number): number {
  const v6 = bytes[offset]! >>> 4 === 6;
  const pseudo = v6 ? pseudoHeaderSumV6(bytes, offset, PROTOCOL.icmpv6, length) : 0;
  return internetChecksum(bytes, offset + headerLength, length, pseudo);
}

/** Fills in the checksum of a message that is complete otherwise. */
export function writeIcmpChecksum(bytes: Uint8Array, offset: number, headerLength: number, length: number): void {
  writeUint16(bytes, offset + headerLength + 2, 0);
  writeUint16(bytes, offset + headerLength + 2, icmpChecksum(bytes, offset, headerLength, length));
}
