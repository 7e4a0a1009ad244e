import { H3_EXCESSIVE_LOAD, Http3StreamError } from '../http3/error-codes.ts';
import type { TlvTreatment } from '../http3/tlv-reader.ts';
import {
  CAPSULE_ADDRESS_ASSIGN,
  CAPSULE_ADDRESS_REQUEST,
  CAPSULE_DATAGRAM,
  CAPSULE_ROUTE_ADVERTISEMENT,
} from './capsule.ts';

/** The largest known capsule we take, in bytes of its value; ours. */
export const MAX_CAPSULE_BYTES = 65_536;

/** How a capsule of a CONNECT-IP stream is taken: unknown ones are read over (RFC 9297 3.2). Throws H3_EXCESSIVE_LOAD for a known one that is too large. */
export function capsuleTreatment(type: number, length: number): TlvTreatment {
  switch (type) {
    case CAPSULE_DATAGRAM:
    case CAPSULE_ADDRESS_ASSIGN:
    case CAPSULE_ADDRESS_REQUEST:
    case CAPSULE_ROUTE_ADVERTISEMENT:
      if (length > MAX_CAPSULE_BYTES) throw oversizedCapsule(type);
      return 'whole';
    default:
      return 'skip';
  }
}

/** The error of a known capsule above MAX_CAPSULE_BYTES, H3_EXCESSIVE_LOAD. */
export function oversizedCapsule(type: number): Http3StreamError {
  const text = `capsule type ${type} is larger than ${MAX_CAPSULE_BYTES} bytes`;
  return new Http3StreamError(H3_EXCESSIVE_LOAD, text, { limit: 'capsule' });
}
