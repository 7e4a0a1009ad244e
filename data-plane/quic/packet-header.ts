import { readVarint, VARINT_TRUNCATED, varintLength } from '../http3/varint.ts';

/** The connection ids of a packet, as offsets into it; filled over and over. */
export interface ConnectionIds {
  destinationOffset: number;
  destinationLength: number;
  /** Long headers only. */
  sourceOffset: number;
  sourceLength: number;
}

/** `other_version` is a long header of a version that we do not speak. */
export type PacketForm = 'short' | 'long' | 'other_version' | 'invalid';

/** The only version that we speak (RFC 9000 15). */
export const QUIC_VERSION_1 = 1;
/** The longest connection id of QUIC version 1 (RFC 9000 17.2). */
export const MAX_CONNECTION_ID_BYTES = 20;

const LONG_HEADER = 0x80;
const TYPE_MASK = 0x30;
/** Type Initial of a long header of version 1 (RFC 9000 17.2.2). */
const TYPE_INITIAL = 0x00;
/** Type Handshake (RFC 9000 17.2.4). */
const TYPE_HANDSHAKE = 0x20;
/** In a long header: flags and version come before the lengths and ids (RFC 8999 5.1). */
const DESTINATION_LENGTH_OFFSET = 5;

export function createConnectionIds(): ConnectionIds {
  return { destinationOffset: 0, destinationLength: 0, sourceOffset: 0, sourceLength: 0 };
}

/**
 * Finds the connection ids of the first packet in a datagram, of any QUIC version (RFC 8999 5). A short header does not tell how long
 * its id is: `ownIdLength`, that of the ids that we give out. Allocates nothing and reads nothing outside of the range.
 */
export function readConnectionIds(
  bytes: Uint8Array,
  offset: number,
  length: number,
  ownIdLength: number,
  out: ConnectionIds,
): PacketForm {
  const end = offset + length;
  if (length <= 0 || end > bytes.length) return 'invalid';
  if ((bytes[offset]! & LONG_HEADER) === 0) {
    if (1 + ownIdLength > length) return 'invalid';
    out.destinationOffset = offset + 1;
    out.destinationLength = ownIdLength;
    out.sourceOffset = end;
    out.sourceLength = 0;
    return 'short';
  }
  const destinationLengthAt = offset + DESTINATION_LENGTH_OFFSET;
  if (destinationLengthAt >= end) return 'invalid';
  out.destinationOffset = destinationLengthAt + 1;
  out.destinationLength = bytes[destinationLengthAt]!;
  const sourceLengthAt = out.destinationOffset + out.destinationLength;
  if (sourceLengthAt >= end) return 'invalid';
  out.sourceOffset = sourceLengthAt + 1;
  out.sourceLength = bytes[sourceLengthAt]!;
  if (out.sourceOffset + out.sourceLength > end) return 'invalid';
  const version = readVersion(bytes, offset);
  // Version 0 is Version Negotiation, which only servers send.
  if (version !== QUIC_VERSION_1) return version === 0 ? 'invalid' : 'other_version';
  const longest = Math.max(out.destinationLength, out.sourceLength);
  return longest <= MAX_CONNECTION_ID_BYTES ? 'long' : 'invalid';
}

/**
 * Where the token of an Initial packet is (RFC 9000 17.2.2) whose connection ids are `ids`: an empty range where it has none. Undefined
 * when the packet is of another type, or cut.
 */
export function initialToken(
  bytes: Uint8Array,
  offset: number,
  length: number,
  ids: ConnectionIds,
): { readonly offset: number; readonly length: number } | undefined {
  if ((bytes[offset]! & TYPE_MASK) !== TYPE_INITIAL) return undefined;
  const end = offset + length;
  const lengthAt = ids.sourceOffset + ids.sourceLength;
  const tokenLength = readVarint(bytes, lengthAt, end);
  if (tokenLength === VARINT_TRUNCATED) return undefined;
  const tokenAt = lengthAt + varintLength(bytes[lengthAt]!);
  return tokenAt + tokenLength > end ? undefined : { offset: tokenAt, length: tokenLength };
}

/** Whether a packet with a long header of version 1 is of type Handshake: it begins no connection, so its ids are of the server's making. */
export function isHandshakePacket(bytes: Uint8Array, offset: number): boolean {
  return (bytes[offset]! & TYPE_MASK) === TYPE_HANDSHAKE;
}

function readVersion(bytes: Uint8Array, offset: number): number {
  return (
    ((bytes[offset + 1]! << 24) | (bytes[offset + 2]! << 16) | (bytes[offset + 3]! << 8) | bytes[offset + 4]!) >>> 0
  );
}
