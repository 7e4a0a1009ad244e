import type { AddressFamily } from '../../shared/ip/address.ts';
import { hostPrefix, isHostPrefix } from '../../shared/ip/prefix.ts';
import { type AddressEntry, encodeAddressEntries, parseAddressEntries } from './address-entry.ts';
import { CAPSULE_ADDRESS_ASSIGN, encodeCapsule } from './capsule.ts';

/** One assigned prefix. `requestId` is that of the request it answers, or 0 when none asked (RFC 9484 4.7.1). */
export type AssignedAddress = AddressEntry;

/** The value of ADDRESS_ASSIGN: the whole list, which replaces any former one; empty takes all away. Throws H3_MESSAGE_ERROR. */
export function parseAddressAssign(value: Uint8Array): AssignedAddress[] {
  return parseAddressEntries('ADDRESS_ASSIGN', value);
}

/** A whole ADDRESS_ASSIGN capsule. */
export function encodeAddressAssign(assigned: readonly AssignedAddress[]): Uint8Array {
  return encodeCapsule(CAPSULE_ADDRESS_ASSIGN, encodeAddressEntries(assigned));
}

/** The entry that refuses a request: 0.0.0.0/32 or ::/128 (RFC 9484 4.7.2). */
export function refusedAddress(requestId: bigint, family: AddressFamily): AssignedAddress {
  return { requestId, prefix: hostPrefix({ family, value: 0n }) };
}

/** Whether an entry says that a request was refused. */
export function isRefusal({ requestId, prefix }: AssignedAddress): boolean {
  return requestId !== 0n && prefix.address.value === 0n && isHostPrefix(prefix);
}
