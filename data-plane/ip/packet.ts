import { inspectIpv4 } from './ipv4-header.ts';
import { inspectIpv6 } from './ipv6-header.ts';
import type { PacketInfo } from './packet-info.ts';

/**
 * What is wrong with a packet, for counters, or 'ok'. Anything but 'ok' is dropped, and never more than dropped (RFC 9484, 7.2).
 * - `empty`: no bytes
 * - `bad_version`: neither 4 nor 6
 * - `truncated`: shorter than its fixed header
 * - `bad_header_length`: IPv4 header length below 20 or beyond the packet
 * - `bad_total_length`: the length in the header is not the packet's
 * - `bad_extension`: an IPv6 extension header that is cut off, out of place, or one too many
 */
export type PacketVerdict =
  | 'ok'
  | 'empty'
  | 'bad_version'
  | 'truncated'
  | 'bad_header_length'
  | 'bad_total_length'
  | 'bad_extension';

/**
 * Checks that `length` bytes at `offset` are one whole IP packet and fills `out` with what its headers say. `out` means nothing
 * unless the answer is 'ok'. Allocates nothing and reads nothing outside of the range; IPv4's header checksum is left to the kernel.
 */
export function inspectPacket(bytes: Uint8Array, offset: number, length: number, out: PacketInfo): PacketVerdict {
  if (length <= 0 || offset < 0 || offset + length > bytes.length) return 'empty';
  const version = bytes[offset]! >>> 4;
  if (version === 4) return inspectIpv4(bytes, offset, length, out);
  if (version === 6) return inspectIpv6(bytes, offset, length, out);
  return 'bad_version';
}
