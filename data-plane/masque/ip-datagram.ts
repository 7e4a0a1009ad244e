import { readVarint, VARINT_TRUNCATED, varintLength } from '../http3/varint.ts';

/** The payload of a CONNECT-IP datagram: a context id, then for context 0 a whole IP packet (RFC 9484 6). Allocation-free. */

/** `ipPacketOffset`: the payload has no whole context id. Drop and count. */
export const DATAGRAM_WITHOUT_CONTEXT = -1;
/** `ipPacketOffset`: a context nobody registered. Drop and count. */
export const DATAGRAM_OF_UNKNOWN_CONTEXT = -2;
/** `ipPacketOffset`: the peer learns what fits into a datagram. Ignore. */
export const DATAGRAM_OF_PROBE = -3;

/** The context of IP packets. */
export const IP_CONTEXT_ID = 0;
/** The context of datagrams that only tell their sender what fits (ours). Nobody registers it, and so every peer drops them (RFC 9484 6). */
const PROBE_CONTEXT_ID = 0x3f;

/** Bytes that `writeIpContext` and `writeProbeContext` write. */
export const IP_CONTEXT_LENGTH = 1;

/** Where the IP packet in payload bytes `offset` to `end` starts (it ends at `end` and can be empty), or DATAGRAM_*. */
export function ipPacketOffset(bytes: Uint8Array, offset: number, end: number): number {
  const context = readVarint(bytes, offset, end);
  if (context === IP_CONTEXT_ID) return offset + varintLength(bytes[offset]!);
  if (context === PROBE_CONTEXT_ID) return DATAGRAM_OF_PROBE;
  return context === VARINT_TRUNCATED ? DATAGRAM_WITHOUT_CONTEXT : DATAGRAM_OF_UNKNOWN_CONTEXT;
}

/** Writes the context id that comes before an IP packet and answers its length in bytes. */
export function writeIpContext(target: Uint8Array, offset: number): number {
  target[offset] = IP_CONTEXT_ID;
  return IP_CONTEXT_LENGTH;
}

/** Writes the context id that comes before the filler of a probe and answers its length in bytes. */
export function writeProbeContext(target: Uint8Array, offset: number): number {
  target[offset] = PROBE_CONTEXT_ID;
  return IP_CONTEXT_LENGTH;
}
