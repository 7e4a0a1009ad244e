import { inspectIpv4 } from './ipv4-header.ts';
import { inspectIpv6 } from './ipv6-header.ts';
import type { PacketInfo } from './packet-info.ts';
import type { PacketVerdict } from './packet-verdict.ts';

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
