/** Ends a session, over HTTP/2 and HTTP/3: a code of four bytes, then a reason (draft-ietf-webtrans-http3 5). */
export const SESSION_CLOSE = 0x2843;

/**
 * Further capsules of WebTransport over HTTP/2 (draft-ietf-webtrans-http2) as the package numbers them, those that a session with a tunnel
 * needs. Packets are in DATAGRAM capsules (RFC 9297 3.5).
 */
export const SESSION_RESET_STREAM = 0x190b4d39;
export const SESSION_STOP_SENDING = 0x190b4d3a;
export const SESSION_STREAM = 0x190b4d3b;
export const SESSION_STREAM_FIN = 0x190b4d3c;
export const SESSION_MAX_DATA = 0x190b4d3d;
export const SESSION_MAX_STREAM_DATA = 0x190b4d3e;

/** Bytes of a close: its code, and the longest reason. */
export const CLOSE_CODE_BYTES = 4;
export const MAX_CLOSE_BYTES = CLOSE_CODE_BYTES + 1024;

/** The code of a close; undefined where it is cut off. */
export function readCloseCode(value: Uint8Array): number | undefined {
  if (value.length < CLOSE_CODE_BYTES) return undefined;
  return new DataView(value.buffer, value.byteOffset).getUint32(0);
}
