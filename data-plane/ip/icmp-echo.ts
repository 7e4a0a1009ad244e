import { ICMP_HEADER_BYTES, icmpChecksum, writeIcmpChecksum } from './icmp-checksum.ts';
import { readUint16, writeUint16 } from './ipv4-header.ts';
import type { PacketInfo } from './packet-info.ts';
import { PROTOCOL } from './protocol.ts';
import { ipHeaderBytes, writeIpHeader } from './write-ip-header.ts';

const ECHO_REQUEST = { 4: 8, 6: 128 } as const;
const ECHO_REPLY = { 4: 0, 6: 129 } as const;

/** TTL of our own packets (ours, as Linux does). */
const DEFAULT_TTL = 64;

export interface EchoMessage {
  readonly kind: 'request' | 'reply';
  /** 4 or 16 bytes each, of one family. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** 16 bits each. */
  readonly identifier: number;
  readonly sequence: number;
  readonly payload: Uint8Array;
}

/** What an echo message says; filled over and over. Offsets are from the start of the packet. */
export interface EchoInfo {
  identifier: number;
  sequence: number;
  payloadOffset: number;
  payloadLength: number;
}

export function createEchoInfo(): EchoInfo {
  return { identifier: 0, sequence: 0, payloadOffset: 0, payloadLength: 0 };
}

/** Writes a whole ICMP or ICMPv6 echo packet (RFC 792, RFC 4443 4) and returns its length. Throws RangeError without room. */
export function writeEcho(out: Uint8Array, offset: number, echo: EchoMessage): number {
  const family = echo.source.length === 4 ? 4 : 6;
  const length = ICMP_HEADER_BYTES + echo.payload.length;
  const header = {
    source: echo.source,
    destination: echo.destination,
    protocol: family === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6,
    ttl: DEFAULT_TTL,
    trafficClass: 0,
  };
  const headerLength = writeIpHeader(out, offset, header, length);
  const icmp = offset + headerLength;
  out[icmp] = (echo.kind === 'request' ? ECHO_REQUEST : ECHO_REPLY)[family];
  out[icmp + 1] = 0;
  writeUint16(out, icmp + 4, echo.identifier);
  writeUint16(out, icmp + 6, echo.sequence);
  out.set(echo.payload, icmp + ICMP_HEADER_BYTES);
  writeIcmpChecksum(out, offset, headerLength, length);
  return headerLength + length;
}

/** The length of an echo packet with so much payload. */
export function echoPacketBytes(addressLength: number, payloadLength: number): number {
  return ipHeaderBytes(addressLength) + ICMP_HEADER_BYTES + payloadLength;
}

/**
 * Whether an inspected packet is an echo request or reply with a right checksum; fills `out` if so. Fragments are 'none': what is
 * asked for here are our own probes, which are small.
 */
export function readEcho(
  bytes: Uint8Array,
  offset: number,
  info: PacketInfo,
  out: EchoInfo,
): 'request' | 'reply' | 'none' {
  if (info.protocol !== (info.family === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6) || info.fragment) return 'none';
  const length = info.totalLength - info.headerLength;
  if (length < ICMP_HEADER_BYTES) return 'none';
  const icmp = offset + info.headerLength;
  const type = bytes[icmp]!;
  const isRequest = type === ECHO_REQUEST[info.family];
  if ((!isRequest && type !== ECHO_REPLY[info.family]) || bytes[icmp + 1] !== 0) return 'none';
  if (icmpChecksum(bytes, offset, info.headerLength, length) !== 0) return 'none';
  out.identifier = readUint16(bytes, icmp + 4);
  out.sequence = readUint16(bytes, icmp + 6);
  out.payloadOffset = info.headerLength + ICMP_HEADER_BYTES;
  out.payloadLength = length - ICMP_HEADER_BYTES;
  return isRequest ? 'request' : 'reply';
}
