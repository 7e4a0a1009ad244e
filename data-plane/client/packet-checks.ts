import { staysOnLink } from '../ip/link-scope.ts';
import { inspectPacket } from '../ip/packet.ts';
import { createPacketInfo, type PacketInfo } from '../ip/packet-info.ts';
import type { PrefixList } from '../ip/prefix-list.ts';

/** What the headers of the packet that was checked last say; meaningless where the answer was no. */
export const packetInfo: PacketInfo = createPacketInfo();

/** Whether a packet of this host goes to the node: a kernel talks to its neighbours on every interface, and here there are none. */
export function mayLeave(bytes: Uint8Array, offset: number, length: number): boolean {
  return inspectPacket(bytes, offset, length, packetInfo) === 'ok' && !staysOnLink(bytes, offset, packetInfo);
}

/** Whether a packet from the node is for us: it reaches what it assigned (`own`), and nothing else on this host or behind it. */
export function mayEnter(own: PrefixList, bytes: Uint8Array, offset: number, length: number): boolean {
  if (!mayLeave(bytes, offset, length)) return false;
  return own.contains(bytes, offset + packetInfo.destinationOffset, packetInfo.family);
}
