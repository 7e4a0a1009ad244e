import { H3_FRAME_ERROR, Http3ConnectionError } from './error-codes.ts';
import { encodedVarintLength, readVarint, VARINT_TRUNCATED, varintLength, writeVarint } from './varint.ts';

/** Frame types, RFC 9114 7.2. */
export const FRAME_DATA = 0x00;
export const FRAME_HEADERS = 0x01;
export const FRAME_CANCEL_PUSH = 0x03;
export const FRAME_SETTINGS = 0x04;
export const FRAME_PUSH_PROMISE = 0x05;
export const FRAME_GOAWAY = 0x07;
export const FRAME_MAX_PUSH_ID = 0x0d;
/** No frame: what a stream of a WebTransport session begins with, its "length" the session's id (draft-ietf-webtrans-http3 4.3). */
export const FRAME_SESSION_STREAM = 0x41;

/** Whether a type belongs to an HTTP/2 frame that has no counterpart here; such frames are errors anywhere (RFC 9114 7.2.8). */
export function isForbiddenFrameType(type: number): boolean {
  return type === 0x02 || type === 0x06 || type === 0x08 || type === 0x09;
}

/** A frame around a payload. */
export function encodeFrame(type: number, payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(encodedVarintLength(type) + encodedVarintLength(payload.length) + payload.length);
  const start = writeVarint(frame, 0, type);
  frame.set(payload, start + writeVarint(frame, start, payload.length));
  return frame;
}

/**
 * The payload of GOAWAY, CANCEL_PUSH and MAX_PUSH_ID: exactly one varint. Infinity above 2^53 - 1. Throws
 * H3_FRAME_ERROR for anything else (RFC 9114 7.1).
 */
export function parseIdPayload(frameName: string, payload: Uint8Array): number {
  const id = readVarint(payload, 0, payload.length);
  if (id === VARINT_TRUNCATED || varintLength(payload[0]!) !== payload.length) {
    throw new Http3ConnectionError(H3_FRAME_ERROR, `${frameName} of ${payload.length} bytes is not exactly one id`);
  }
  return id;
}
