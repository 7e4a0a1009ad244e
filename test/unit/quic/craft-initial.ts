import { createCipheriv, createHmac } from 'node:crypto';
import { encodeVarint } from '../../../data-plane/http3/varint.ts';

/** The salt of QUIC version 1 (RFC 9001 5.2). */
const INITIAL_SALT = Buffer.from('38762cf7f55934b34d179ae6a4c80cadccbb7f0a', 'hex');
/** A datagram with an Initial packet has at least that many bytes (RFC 9000 14.1). */
const MIN_DATAGRAM_BYTES = 1200;
const TAG_BYTES = 16;
const PACKET_NUMBER_BYTES = 4;

function expandLabel(secret: Buffer, label: string, length: number): Buffer {
  const name = Buffer.from(`tls13 ${label}`, 'latin1');
  const info = Buffer.concat([Buffer.of(0, length, name.length), name, Buffer.of(0)]);
  return createHmac('sha256', secret)
    .update(Buffer.concat([info, Buffer.of(1)]))
    .digest()
    .subarray(0, length);
}

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
  const initialSecret = createHmac('sha256', INITIAL_SALT).update(destinationId).digest();
  const secret = expandLabel(initialSecret, 'client in', 32);
  const key = expandLabel(secret, 'quic key', 16);
  const iv = expandLabel(secret, 'quic iv', 12);
  const headerKey = expandLabel(secret, 'quic hp', 16);
  const ids = [destinationId, sourceId].map((id) => Buffer.concat([Buffer.of(id.length), id]));
  const fixed = Buffer.concat([
    Buffer.of(0xc0 | (PACKET_NUMBER_BYTES - 1), 0, 0, 0, 1),
    ...ids,
    encodeVarint(token.length),
    token,
  ]);
  const room = MIN_DATAGRAM_BYTES - fixed.length - 2 - PACKET_NUMBER_BYTES - TAG_BYTES;
  const payload = Buffer.concat([frames, Buffer.alloc(Math.max(0, room - frames.length))]);
  const length = PACKET_NUMBER_BYTES + payload.length + TAG_BYTES;
  const packetNumber = Buffer.alloc(PACKET_NUMBER_BYTES);
  packetNumber.writeUInt32BE(number);
  const header = Buffer.concat([fixed, Buffer.of(0x40 | (length >> 8), length & 0xff), packetNumber]);
  const nonce = Buffer.from(iv);
  for (let i = 0; i < PACKET_NUMBER_BYTES; i++)
    nonce[nonce.length - 1 - i]! ^= packetNumber[PACKET_NUMBER_BYTES - 1 - i]!;
  const cipher = createCipheriv('aes-128-gcm', key, nonce);
  cipher.setAAD(header);
  const sealed = Buffer.concat([cipher.update(payload), cipher.final(), cipher.getAuthTag()]);
  const packet = Buffer.concat([header, sealed]);
  const numberAt = header.length - PACKET_NUMBER_BYTES;
  const mask = createCipheriv('aes-128-ecb', headerKey, null).update(packet.subarray(numberAt + 4, numberAt + 20));
  packet[0]! ^= mask[0]! & 0x0f;
  for (let i = 0; i < PACKET_NUMBER_BYTES; i++) packet[numberAt + i]! ^= mask[1 + i]!;
  return packet;
}
