import type { AddressTable } from '../ip/address-table.ts';
import { inspectPacket } from '../ip/packet.ts';
import { createPacketInfo, type PacketInfo } from '../ip/packet-info.ts';
import type { DropReason } from './drop-counters.ts';

/** What the headers of the packet that was routed last say; meaningless after `malformed`. */
export const downlinkInfo: PacketInfo = createPacketInfo();

/** The tunnel that a packet from the TUN device belongs to, by its destination, or why it goes nowhere. */
export function routeDownlink<Tunnel>(
  tunnels: AddressTable<Tunnel>,
  bytes: Uint8Array,
  offset: number,
  length: number,
): Tunnel | Extract<DropReason, 'malformed' | 'no_client'> {
  const info = downlinkInfo;
  if (inspectPacket(bytes, offset, length, info) !== 'ok') return 'malformed';
  return tunnels.get(bytes, offset + info.destinationOffset, info.addressLength) ?? 'no_client';
}
