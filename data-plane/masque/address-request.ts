import { H3_EXCESSIVE_LOAD, Http3StreamError } from '../http3/error-codes.ts';
import { type AddressEntry, encodeAddressEntries, parseAddressEntries } from './address-entry.ts';
import { CAPSULE_ADDRESS_REQUEST, encodeCapsule, malformedCapsule } from './capsule.ts';

/** How many addresses one stream may request in its life, ours: their ids must be remembered to see a reuse. */
export const MAX_REQUEST_IDS = 1024;

/** One wish. An all-zero address asks for any of its family, the prefix length for that size (RFC 9484 4.7.2). */
export type RequestedAddress = AddressEntry;

/** The value of ADDRESS_REQUEST. Throws H3_MESSAGE_ERROR, also when it is empty, has id 0, or one id twice. */
export function parseAddressRequest(value: Uint8Array): RequestedAddress[] {
  const requested = parseAddressEntries('ADDRESS_REQUEST', value);
  if (requested.length === 0) throw malformedCapsule('ADDRESS_REQUEST requests no address');
  const ids = new Set<bigint>();
  for (const { requestId } of requested) {
    if (requestId === 0n) throw malformedCapsule('ADDRESS_REQUEST has request id 0');
    if (ids.has(requestId)) throw malformedCapsule(`ADDRESS_REQUEST has request id ${requestId} twice`);
    ids.add(requestId);
  }
  return requested;
}

/** A whole ADDRESS_REQUEST capsule. */
export function encodeAddressRequest(requested: readonly RequestedAddress[]): Uint8Array {
  return encodeCapsule(CAPSULE_ADDRESS_REQUEST, encodeAddressEntries(requested));
}

/** The request ids one stream has used so far: an endpoint must never use one again. */
export class UsedRequestIds {
  readonly #ids = new Set<bigint>();

  /** Throws H3_MESSAGE_ERROR for a reused id, H3_EXCESSIVE_LOAD beyond MAX_REQUEST_IDS. */
  add(requested: readonly RequestedAddress[]): void {
    for (const { requestId } of requested) {
      if (this.#ids.has(requestId)) throw malformedCapsule(`ADDRESS_REQUEST uses request id ${requestId} again`);
      this.#ids.add(requestId);
    }
    if (this.#ids.size > MAX_REQUEST_IDS) {
      const text = `more than ${MAX_REQUEST_IDS} addresses requested on one stream`;
      throw new Http3StreamError(H3_EXCESSIVE_LOAD, text, { limit: 'address_requests' });
    }
  }
}
