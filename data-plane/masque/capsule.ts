import { H3_MESSAGE_ERROR, Http3StreamError } from '../http3/error-codes.ts';
import { encodedVarintLength, writeVarint } from '../http3/varint.ts';

/** Capsule types: RFC 9297 5.4, RFC 9484 4.7. */
export const CAPSULE_DATAGRAM = 0x00;
export const CAPSULE_ADDRESS_ASSIGN = 0x01;
export const CAPSULE_ADDRESS_REQUEST = 0x02;
export const CAPSULE_ROUTE_ADVERTISEMENT = 0x03;

/** A capsule around a value (RFC 9297 3.2). */
export function encodeCapsule(type: number, value: Uint8Array): Uint8Array {
  const capsule = new Uint8Array(encodedVarintLength(type) + encodedVarintLength(value.length) + value.length);
  const start = writeVarint(capsule, 0, type);
  capsule.set(value, start + writeVarint(capsule, start, value.length));
  return capsule;
}

/** The error of a malformed capsule or message, H3_MESSAGE_ERROR (RFC 9297 3.3). */
export function malformedCapsule(why: string): Http3StreamError {
  return new Http3StreamError(H3_MESSAGE_ERROR, why);
}
