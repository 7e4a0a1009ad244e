import { encodeVarint } from '../../../data-plane/http3/varint.ts';
import { encodeInitial } from '../../../data-plane/quic/initial-packet.ts';

/** A datagram with an Initial packet has at least that many bytes (RFC 9000 14.1). */
const MIN_DATAGRAM_BYTES = 1200;

/** A CRYPTO frame with bytes of the handshake from offset 0 on. */
export function cryptoFrame(bytes: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(0x06, 0), encodeVarint(bytes.length), bytes]);
}

/**
 * The first datagram of a client, with any frames in it: protected as every listener can (RFC 9001 5.2), so a node must take it in. The
 * frames are padded to the length that such a datagram must have.
 */
export function craftInitial(
  frames: Uint8Array,
  destinationId: Uint8Array,
  sourceId: Uint8Array,
  number = 0,
  token: Uint8Array = new Uint8Array(0),
): Buffer {
  const packet = { from: 'client', keyId: destinationId, destinationId, sourceId, token, number } as const;
  const missing = MIN_DATAGRAM_BYTES - encodeInitial({ ...packet, frames }).length;
  return encodeInitial({ ...packet, frames: Buffer.concat([frames, Buffer.alloc(Math.max(0, missing))]) });
}
