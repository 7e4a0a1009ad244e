/** The connection ids of a packet, as offsets into it; filled over and over. */
export interface ConnectionIds {
  destinationOffset: number;
  destinationLength: number;
  /** Long headers only. */
  sourceOffset: number;
  sourceLength: number;
}

export type PacketForm = 'short' | 'long' | 'invalid';

/** The longest connection id of QUIC version 1 (RFC 9000 17.2). */
export const MAX_CONNECTION_ID_BYTES = 20;

const LONG_HEADER = 0x80;
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
  if (out.destinationLength > MAX_CONNECTION_ID_BYTES || sourceLengthAt >= end) return 'invalid';
  out.sourceOffset = sourceLengthAt + 1;
  out.sourceLength = bytes[sourceLengthAt]!;
  const fits = out.sourceLength <= MAX_CONNECTION_ID_BYTES && out.sourceOffset + out.sourceLength <= end;
  return fits ? 'long' : 'invalid';
}
