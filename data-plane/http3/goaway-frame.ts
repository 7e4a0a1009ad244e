import { encodeFrame, FRAME_GOAWAY, parseIdPayload } from './frame.ts';
import { encodeVarint } from './varint.ts';

/** The id a server announces before it knows its last request: the highest client-initiated bidirectional stream (RFC 9114 5.2). */
export const GOAWAY_FIRST_NOTICE = (1n << 62n) - 4n;

export interface Goaway {
  /** From a server the first request stream that is not served, from a client a push id. Infinity above 2^53 - 1. */
  readonly id: number;
  /** Whether the id can be one of a client-initiated bidirectional stream. */
  readonly isRequestStream: boolean;
}

/** Throws H3_FRAME_ERROR unless the payload is exactly one varint. */
export function parseGoaway(payload: Uint8Array): Goaway {
  const id = parseIdPayload('GOAWAY', payload);
  return { id, isRequestStream: (payload[payload.length - 1]! & 0x03) === 0 };
}

export function encodeGoaway(id: number | bigint): Uint8Array {
  return encodeFrame(FRAME_GOAWAY, encodeVarint(id));
}
