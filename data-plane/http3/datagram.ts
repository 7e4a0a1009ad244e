import { encodedVarintLength, readVarint, varintLength, writeVarint } from './varint.ts';

/** HTTP datagrams over QUIC: a quarter stream id, then the payload (RFC 9297 2.1). Nothing here allocates. */

/** No such stream is open, or its request is not known yet. */
export const DATAGRAM_UNKNOWN_STREAM = -1;
/** The peer ended its side of the stream, or the request was refused. */
export const DATAGRAM_STREAM_CLOSED = -2;
/** The datagram broke the protocol; its stream or the connection was closed with H3_DATAGRAM_ERROR or H3_ID_ERROR. */
export const DATAGRAM_ERROR = -3;

/** `readQuarterStreamId`: cut off or above 2^60 - 1. */
export const QUARTER_ID_MALFORMED = -1;
/** `readQuarterStreamId`: a legal id of a stream so high that we could never have allowed it. */
export const QUARTER_ID_BEYOND_ANY_LIMIT = -2;

/** First-byte bits that an 8-byte varint above 2^60 - 1 has set: bits 60 and 61 of the value. */
const ABOVE_60_BITS = 0x30;

/** The request stream id of a datagram, or one of the negative codes QUARTER_ID_*. */
export function readQuarterStreamId(bytes: Uint8Array, offset: number, end: number): number {
  const quarter = readVarint(bytes, offset, end);
  if (quarter < 0) return QUARTER_ID_MALFORMED;
  if (quarter <= Number.MAX_SAFE_INTEGER / 4) return quarter * 4;
  return bytes[offset]! & ABOVE_60_BITS ? QUARTER_ID_MALFORMED : QUARTER_ID_BEYOND_ANY_LIMIT;
}

/** Where the payload of a datagram starts whose stream id could be read. */
export function datagramPayloadOffset(bytes: Uint8Array, offset: number): number {
  return offset + varintLength(bytes[offset]!);
}

/** Bytes that the header of a stream's datagrams takes. */
export function datagramHeaderLength(streamId: number): number {
  return encodedVarintLength(streamId / 4);
}

/** Writes the header of a stream's datagram and answers its length in bytes. */
export function writeQuarterStreamId(target: Uint8Array, offset: number, streamId: number): number {
  return writeVarint(target, offset, streamId / 4);
}
