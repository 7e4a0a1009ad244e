import { MAX_DATAGRAM_PAYLOAD } from '../quic/core-handle.ts';

/** IPv6 needs links of at least this MTU (RFC 8200 5); a tunnel that has less must be aborted (RFC 9484 7.2). */
export const MIN_TUNNEL_MTU = 1280;

/** Before the packet in a datagram: the quarter stream id (RFC 9297 2.1), one byte up to stream 252, and context id 0. */
const DATAGRAM_PREFIX_BYTES = 2;

/** The longest IP packet that fits into one datagram. */
export const MAX_TUNNEL_MTU = MAX_DATAGRAM_PAYLOAD - DATAGRAM_PREFIX_BYTES;

/** Why a tunnel with an IPv6 address must not live on; undefined where it may. */
export function ipv6MtuProblem(maxPacketBytes: number): string | undefined {
  if (maxPacketBytes >= MIN_TUNNEL_MTU) return undefined;
  return `the peer takes IP packets of at most ${maxPacketBytes} bytes in a datagram, IPv6 needs ${MIN_TUNNEL_MTU}`;
}
