import { CAPSULE_DATAGRAM, encodeCapsule } from './capsule.ts';

/** An HTTP datagram payload inside a DATAGRAM capsule (RFC 9297 3.5); its value is the payload as it is, also empty. */
export function encodeDatagramCapsule(payload: Uint8Array): Uint8Array {
  return encodeCapsule(CAPSULE_DATAGRAM, payload);
}
