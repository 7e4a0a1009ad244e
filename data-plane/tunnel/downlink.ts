import type { AddressTable } from '../ip/address-table.ts';
import { staysOnLink } from '../ip/link-scope.ts';
import { inspectPacket } from '../ip/packet.ts';
import { createPacketInfo, type PacketInfo } from '../ip/packet-info.ts';

/** What the headers of the packet that was routed last say; meaningless after `ignored`. */
export const downlinkInfo: PacketInfo = createPacketInfo();

/**
 * The tunnel that a packet from the TUN device belongs to, by its destination, or why it goes nowhere: `no_client` has the address, or it
 * is `ignored`: no whole packet, or one for its link alone, such as a kernel sends on every interface.
 */
export function routeDownlink<Tunnel>(
  tunnels: AddressTable<Tunnel>,
  bytes: Uint8Array,
  offset: number,
  length: number,
): Tunnel | 'no_client' | 'ignored' {
  const info = downlinkInfo;
  if (inspectPacket(bytes, offset, length, info) !== 'ok' || staysOnLink(bytes, offset, info)) return 'ignored';
  return tunnels.get(bytes, offset + info.destinationOffset, info.addressLength) ?? 'no_client';
}
