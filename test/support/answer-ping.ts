import { createEchoInfo, readEcho, writeEcho } from '../../data-plane/ip/icmp-echo.ts';
import { inspectPacket } from '../../data-plane/ip/packet.ts';
import { createPacketInfo } from '../../data-plane/ip/packet-info.ts';
import { addressToBytes, parseAddress } from '../../shared/ip/address.ts';
import type { TunnelEnd } from './tunnel-end.ts';

const info = createPacketInfo();
const echo = createEchoInfo();

/** Answers an echo request to the peer as a host would; other packets are nothing to it. */
export function answerPing(peer: TunnelEnd, packet: Buffer): void {
  if (inspectPacket(packet, 0, packet.length, info) !== 'ok' || readEcho(packet, 0, info, echo) !== 'request') return;
  const own = peer.addresses
    .map((text) => addressToBytes(parseAddress(text)))
    .find((a) => a.length === info.addressLength);
  if (own === undefined) return;
  const answer = Buffer.alloc(packet.length);
  const destination = packet.subarray(info.sourceOffset, info.sourceOffset + info.addressLength);
  const payload = packet.subarray(echo.payloadOffset, echo.payloadOffset + echo.payloadLength);
  const { identifier, sequence } = echo;
  writeEcho(answer, 0, { kind: 'reply', source: own, destination, identifier, sequence, payload });
  peer.packet(answer);
}
