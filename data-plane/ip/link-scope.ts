import { isLimitedBroadcast, isLinkLocal, isMulticast } from './address-key.ts';
import type { PacketInfo } from './packet-info.ts';
import { PROTOCOL } from './protocol.ts';

/** Router solicitation to redirect (RFC 4861 4): about the neighbours on one link, and a tunnel has none (RFC 9484 7.1). */
const FIRST_NEIGHBOR_DISCOVERY = 133;
const LAST_NEIGHBOR_DISCOVERY = 137;

/** Whether an inspected packet is for one link alone, so that no tunnel may carry it on (RFC 9484 7.1, RFC 3927 2.7, RFC 4291 2.5.6). */
export function staysOnLink(bytes: Uint8Array, offset: number, info: PacketInfo): boolean {
  const { addressLength } = info;
  const destination = offset + info.destinationOffset;
  return (
    isMulticast(bytes, destination, addressLength) ||
    isLinkLocal(bytes, destination, addressLength) ||
    isLimitedBroadcast(bytes, destination, addressLength) ||
    isLinkLocal(bytes, offset + info.sourceOffset, addressLength) ||
    isNeighborDiscovery(bytes, offset, info)
  );
}

function isNeighborDiscovery(bytes: Uint8Array, offset: number, info: PacketInfo): boolean {
  if (info.protocol !== PROTOCOL.icmpv6 || info.family !== 6) return false;
  if (info.laterFragment || info.headerLength >= info.totalLength) return false;
  const type = bytes[offset + info.headerLength]!;
  return type >= FIRST_NEIGHBOR_DISCOVERY && type <= LAST_NEIGHBOR_DISCOVERY;
}
