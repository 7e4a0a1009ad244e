import { createCipheriv } from 'node:crypto';
import { QUIC_VERSION_1 } from './packet-header.ts';

/** With these, anybody can make the tag: it tells a Retry from a packet that was damaged on its way (RFC 9001 5.8). */
const INTEGRITY_KEY = Buffer.from('be0c690b9f66575a1d766b54e368c84e', 'hex');
const INTEGRITY_NONCE = Buffer.from('461599d35d632bf2239825bb', 'hex');
/** Long header, fixed bit, type Retry (RFC 9000 17.2.5). */
const FIRST_BYTE = 0xf0;

/**
 * A Retry packet (RFC 9000 17.2.5) that answers the client's first packet, which came from `clientId` to `originalId`. The client
 * sends the next one to `newId` and puts `token` into it.
 */
export function encodeRetry(
  clientId: Uint8Array,
  originalId: Uint8Array,
  newId: Uint8Array,
  token: Uint8Array,
): Buffer {
  const head = Buffer.alloc(5);
  head[0] = FIRST_BYTE;
  head.writeUInt32BE(QUIC_VERSION_1, 1);
  const packet = Buffer.concat([head, withLength(clientId), withLength(newId), token]);
  const cipher = createCipheriv('aes-128-gcm', INTEGRITY_KEY, INTEGRITY_NONCE);
  cipher.setAAD(Buffer.concat([withLength(originalId), packet]));
  cipher.final();
  return Buffer.concat([packet, cipher.getAuthTag()]);
}

function withLength(id: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(id.length), id]);
}
