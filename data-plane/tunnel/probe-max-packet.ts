import type { Http3Connection } from '../http3/http3-connection.ts';
import { writeProbeContext } from '../masque/ip-datagram.ts';
import type { QuicEndpoint } from '../quic/quic-endpoint.ts';
import type { TunnelPath } from './send-packet.ts';

/**
 * The longest IP packet, of at most `most` bytes, that the peer takes in a datagram of this request stream: its max_datagram_frame_size
 * (RFC 9221 3) is not told by the QUIC core, which only refuses what is longer, and so datagrams that the peer drops are sent, mostly
 * one. Undefined where that cannot be told now: the queue is full, or the peer's SETTINGS have not come.
 */
export function probeMaxPacketBytes(
  quic: QuicEndpoint,
  http3: Http3Connection,
  path: TunnelPath,
  most: number,
): number | undefined {
  const isTaken = (packetBytes: number): boolean => sendProbe(quic, http3, path, packetBytes);
  if (isTaken(most)) return most;
  let taken = 0;
  let refused = most;
  while (refused - taken > 1) {
    const middle = (taken + refused) >> 1;
    if (isTaken(middle)) taken = middle;
    else refused = middle;
  }
  // A full queue refuses everything: where it takes one more now, it was the length that was refused before.
  return isTaken(0) ? taken : undefined;
}

function sendProbe(quic: QuicEndpoint, http3: Http3Connection, path: TunnelPath, packetBytes: number): boolean {
  const target = quic.datagramTarget;
  const at = quic.datagramOffset;
  const header = http3.writeDatagramHeader(target, at, path.streamId);
  if (header === 0) return false;
  const filler = at + header + writeProbeContext(target, at + header);
  // What is there are packets of others.
  target.fill(0, filler, filler + packetBytes);
  return quic.sendDatagram(path.connection, filler + packetBytes - at);
}
