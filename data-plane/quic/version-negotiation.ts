import { randomInt } from 'node:crypto';
import { type ConnectionIds, QUIC_VERSION_1 } from './packet-header.ts';

const LONG_HEADER = 0x80;
/** Versions of this form are never real ones: they keep clients from expecting what they know (RFC 9000 6.3, 15). */
const RESERVED_VERSION = 0x0a0a0a0a;
const RESERVED_MASK = 0xf0f0f0f0;

/** The answer to a packet of a version that we do not speak (RFC 9000 17.2.1): its ids, swapped, and the versions that we do. */
export function encodeVersionNegotiation(packet: Uint8Array, ids: ConnectionIds): Buffer {
  const { destinationOffset, destinationLength, sourceOffset, sourceLength } = ids;
  const head = Buffer.alloc(5);
  head[0] = LONG_HEADER | randomInt(0x80);
  const versions = Buffer.alloc(8);
  versions.writeUInt32BE(QUIC_VERSION_1);
  versions.writeUInt32BE(((randomInt(0xffffffff) & RESERVED_MASK) | RESERVED_VERSION) >>> 0, 4);
  return Buffer.concat([
    head,
    Buffer.of(sourceLength),
    packet.subarray(sourceOffset, sourceOffset + sourceLength),
    Buffer.of(destinationLength),
    packet.subarray(destinationOffset, destinationOffset + destinationLength),
    versions,
  ]);
}
