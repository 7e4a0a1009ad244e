import { readUint16 } from './ipv4-header.ts';
import type { PacketInfo } from './packet-info.ts';
import type { PacketVerdict } from './packet-verdict.ts';
import { PROTOCOL } from './protocol.ts';

export const IPV6_HEADER_BYTES = 40;
export const IPV6_SOURCE_OFFSET = 8;
export const IPV6_DESTINATION_OFFSET = 24;

/** Longest chain that is followed (ours). RFC 8200, 4.1 lists each of its extension headers once, destination options twice. */
export const MAX_EXTENSION_HEADERS = 8;
const FRAGMENT_HEADER_BYTES = 8;

/**
 * Validates an IPv6 packet (RFC 8200) and follows its extension headers to the upper-layer protocol; called by `inspectPacket`, which
 * has checked the range and the version. Jumbograms (RFC 2675) are refused: no tunnel carries them.
 */
export function inspectIpv6(bytes: Uint8Array, offset: number, length: number, out: PacketInfo): PacketVerdict {
  if (length < IPV6_HEADER_BYTES) return 'truncated';
  if (readUint16(bytes, offset + 4) + IPV6_HEADER_BYTES !== length) return 'bad_total_length';
  out.family = 6;
  out.totalLength = length;
  out.sourceOffset = IPV6_SOURCE_OFFSET;
  out.destinationOffset = IPV6_DESTINATION_OFFSET;
  out.addressLength = 16;
  out.laterFragment = false;
  out.fragment = false;
  return walkExtensionHeaders(bytes, offset, length, out);
}

function walkExtensionHeaders(bytes: Uint8Array, offset: number, length: number, out: PacketInfo): PacketVerdict {
  let next = bytes[offset + 6]!;
  let at = IPV6_HEADER_BYTES;
  for (let headers = 0; isExtensionHeader(next); headers++) {
    // Hop-by-hop options are the first header or an error (RFC 8200, 4.1).
    if (headers === MAX_EXTENSION_HEADERS || (next === PROTOCOL.hopByHop && headers > 0)) return 'bad_extension';
    if (at + 8 > length) return 'bad_extension';
    const size = extensionHeaderBytes(next, bytes[offset + at + 1]!);
    if (at + size > length) return 'bad_extension';
    if (next === PROTOCOL.ipv6Fragment) {
      const fragment = readUint16(bytes, offset + at + 2);
      if ((fragment & 0xfff9) !== 0) out.fragment = true; // bits 1 and 2 are reserved
      if ((fragment & 0xfff8) !== 0) out.laterFragment = true;
    }
    next = bytes[offset + at]!;
    at += size;
    if (out.laterFragment) break; // what follows is the middle of something
  }
  out.protocol = next;
  out.headerLength = at;
  return 'ok';
}

function extensionHeaderBytes(type: number, lengthField: number): number {
  if (type === PROTOCOL.ipv6Fragment) return FRAGMENT_HEADER_BYTES;
  if (type === PROTOCOL.authentication) return (lengthField + 2) * 4; // RFC 4302, 2.2
  return (lengthField + 1) * 8;
}

/** Extension headers that have a length and a successor (IANA's list); ESP and "no next header" end the chain. */
export function isExtensionHeader(type: number): boolean {
  switch (type) {
    case PROTOCOL.hopByHop:
    case PROTOCOL.ipv6Routing:
    case PROTOCOL.ipv6Fragment:
    case PROTOCOL.authentication:
    case PROTOCOL.destinationOptions:
    case PROTOCOL.mobility:
    case PROTOCOL.hip:
    case PROTOCOL.shim6:
      return true;
    default:
      return false;
  }
}
