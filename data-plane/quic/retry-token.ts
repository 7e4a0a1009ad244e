import { createHmac, timingSafeEqual } from 'node:crypto';
import { parseSocketAddress, type SocketAddress } from '../udp/socket-address.ts';

/** How long a client has to come back with its token (ours): two retransmissions of a first packet. The core would take a minute. */
export const RETRY_TOKEN_LIFETIME_SECONDS = 10;
/** Bytes of the key that all cores of a node share, so that each takes the tokens of the others. */
export const RETRY_KEY_BYTES = 32;

/** Bytes of HMAC-SHA-256, which come first. */
const TAG_BYTES = 32;
const PORT_BYTES = 2;
const TIME_BYTES = 8;

export type TokenVerdict = 'valid' | 'expired' | 'another_address' | 'unknown';

/**
 * The token that a Retry hands to a client (RFC 9000 8.1.2), in the QUIC core's own form: an HMAC over the peer's address and port, the
 * time in seconds, and the connection id of the packet that it answers. A core that demands tokens reads this id from it, and
 * with that makes the transport parameters that the client checks.
 */
export function mintRetryToken(key: Uint8Array, peer: string, destinationId: Uint8Array, nowMs: number): Buffer {
  const time = Buffer.alloc(TIME_BYTES);
  time.writeBigUInt64BE(BigInt(Math.floor(nowMs / 1000)));
  const payload = Buffer.concat([addressBytes(peer), time, Buffer.of(destinationId.length), destinationId]);
  return Buffer.concat([sign(key, payload), payload]);
}

/** What a token is worth to this peer at `nowMs`, Unix time; `unknown` when it was not made with this key. */
export function checkRetryToken(key: Uint8Array, token: Uint8Array, peer: string, nowMs: number): TokenVerdict {
  const payload = token.subarray(TAG_BYTES);
  if (payload.length === 0 || !timingSafeEqual(token.subarray(0, TAG_BYTES), sign(key, payload))) return 'unknown';
  const address = addressBytes(peer);
  if (!address.equals(payload.subarray(0, address.length))) return 'another_address';
  const madeSeconds = Number(Buffer.from(payload).readBigUInt64BE(address.length));
  return nowMs / 1000 - madeSeconds > RETRY_TOKEN_LIFETIME_SECONDS ? 'expired' : 'valid';
}

function sign(key: Uint8Array, payload: Uint8Array): Buffer {
  return createHmac('sha256', key).update(payload).digest();
}

function addressBytes(peer: string): Buffer {
  const { family, port, bytes }: SocketAddress = parseSocketAddress(peer);
  const portBytes = Buffer.alloc(PORT_BYTES);
  portBytes.writeUInt16BE(port);
  return Buffer.concat([Buffer.of(family), family === 4 ? bytes.subarray(4, 8) : bytes.subarray(8, 24), portBytes]);
}
