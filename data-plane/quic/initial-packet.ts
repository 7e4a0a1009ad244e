import { createCipheriv, createHmac } from 'node:crypto';
import { encodeVarint } from '../http3/varint.ts';

/** The salt of QUIC version 1 (RFC 9001 5.2). */
const INITIAL_SALT = Buffer.from('38762cf7f55934b34d179ae6a4c80cadccbb7f0a', 'hex');
const PACKET_NUMBER_BYTES = 4;
const TAG_BYTES = 16;
/** Long header, fixed bit, type Initial, and how long the packet number is (RFC 9000 17.2.2). */
const FIRST_BYTE = 0xc0 | (PACKET_NUMBER_BYTES - 1);
/** A CONNECTION_CLOSE of QUIC itself (RFC 9000 19.19). */
const CONNECTION_CLOSE = 0x1c;

export interface InitialPacket {
  readonly from: 'client' | 'server';
  /** Where the client's packets go, which makes the keys: everybody can make them (RFC 9001 5.2). */
  readonly keyId: Uint8Array;
  readonly destinationId: Uint8Array;
  readonly sourceId: Uint8Array;
  readonly token?: Uint8Array;
  readonly number?: number;
  readonly frames: Uint8Array;
}

/** A protected Initial packet (RFC 9001 5). */
export function encodeInitial(packet: InitialPacket): Buffer {
  const { from, keyId, destinationId, sourceId, token = new Uint8Array(0), number = 0, frames } = packet;
  const secret = expandLabel(createHmac('sha256', INITIAL_SALT).update(keyId).digest(), `${from} in`, 32);
  const length = PACKET_NUMBER_BYTES + frames.length + TAG_BYTES;
  const packetNumber = Buffer.alloc(PACKET_NUMBER_BYTES);
  packetNumber.writeUInt32BE(number);
  const ids = [destinationId, sourceId].flatMap((id) => [Buffer.of(id.length), id]);
  const fields = [...ids, encodeVarint(token.length), token, Buffer.of(0x40 | (length >> 8), length & 0xff)];
  const header = Buffer.concat([Buffer.of(FIRST_BYTE, 0, 0, 0, 1), ...fields, packetNumber]);
  const nonce = expandLabel(secret, 'quic iv', 12);
  const last = nonce.length - PACKET_NUMBER_BYTES;
  nonce.writeUInt32BE((nonce.readUInt32BE(last) ^ number) >>> 0, last);
  const cipher = createCipheriv('aes-128-gcm', expandLabel(secret, 'quic key', 16), nonce);
  cipher.setAAD(header);
  const sealed = Buffer.concat([header, cipher.update(frames), cipher.final(), cipher.getAuthTag()]);
  const numberAt = header.length - PACKET_NUMBER_BYTES;
  // The packet number is taken to be 4 bytes long where the sample begins (RFC 9001 5.4.2).
  const sample = sealed.subarray(numberAt + 4, numberAt + 20);
  const mask = createCipheriv('aes-128-ecb', expandLabel(secret, 'quic hp', 16), null).update(sample);
  sealed[0]! ^= mask[0]! & 0x0f;
  for (let i = 0; i < PACKET_NUMBER_BYTES; i++) sealed[numberAt + i]! ^= mask[1 + i]!;
  return sealed;
}

/** The frame that closes a connection with an error of QUIC, without words. */
export function connectionCloseFrame(errorCode: number): Uint8Array {
  return Buffer.concat([Buffer.of(CONNECTION_CLOSE), encodeVarint(errorCode), Buffer.of(0, 0)]);
}

/** HKDF-Expand-Label (RFC 8446 7.1) of at most one block. */
function expandLabel(secret: Buffer, label: string, length: number): Buffer {
  const name = Buffer.from(`tls13 ${label}`, 'latin1');
  const info = Buffer.concat([Buffer.of(0, length, name.length), name, Buffer.of(0, 1)]);
  return createHmac('sha256', secret).update(info).digest().subarray(0, length);
}
