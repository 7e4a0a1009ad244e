import { datagramHeaderLength } from '../http3/datagram.ts';
import type { Http3Connection } from '../http3/http3-connection.ts';
import { IP_CONTEXT_LENGTH, writeIpContext } from '../masque/ip-datagram.ts';
import { copyBytes } from '../os/copy-bytes.ts';
import { MAX_DATAGRAM_PAYLOAD } from '../quic/core-handle.ts';
import type { QuicEndpoint } from '../quic/quic-endpoint.ts';

/** Where a tunnel's datagrams go: a request stream of a QUIC connection. */
export interface TunnelPath {
  readonly connection: number;
  readonly streamId: number;
}

/** The longest IP packet that fits into a datagram of this request stream (RFC 9484 10.1): later streams have longer ids. */
export function maxPacketBytes(streamId: number): number {
  return MAX_DATAGRAM_PAYLOAD - datagramHeaderLength(streamId) - IP_CONTEXT_LENGTH;
}

/** Sends one IP packet as an HTTP datagram (RFC 9484 6). False when it is too long or the send queue is full. */
export function sendPacket(
  quic: QuicEndpoint,
  http3: Http3Connection,
  path: TunnelPath,
  bytes: Uint8Array,
  offset: number,
  length: number,
): boolean {
  if (length > maxPacketBytes(path.streamId)) return false;
  const target = quic.datagramTarget;
  const at = quic.datagramOffset;
  const header = http3.writeDatagramHeader(target, at, path.streamId);
  if (header === 0) return false;
  const prefix = header + writeIpContext(target, at + header);
  copyBytes(bytes, offset, target, at + prefix, length);
  return quic.sendDatagram(path.connection, prefix + length);
}
