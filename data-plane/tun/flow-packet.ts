import { IPV4_HEADER_BYTES, readUint16 } from '../ip/ipv4-header.ts';
import { IPV6_HEADER_BYTES } from '../ip/ipv6-header.ts';
import { PROTOCOL } from '../ip/protocol.ts';
import {
  TCP_DATA_OFFSET,
  TCP_FLAG,
  TCP_FLAGS_OFFSET,
  TCP_HEADER_BYTES,
  TCP_SEQUENCE_OFFSET,
  UDP_CHECKSUM_OFFSET,
  UDP_HEADER_BYTES,
  UDP_LENGTH_OFFSET,
} from '../ip/transport-header.ts';

/** What one packet means to coalescing. One object is filled over and over. */
export interface FlowPacket {
  family: 4 | 6;
  protocol: number;
  /** Of addresses, protocol and ports; equal for equal flows. */
  hash: number;
  /** Bytes of the whole packet, of what is before its TCP or UDP header, of all headers, and of the payload. */
  length: number;
  transport: number;
  headers: number;
  payload: number;
  /** TCP only. */
  sequence: number;
  flags: number;
  /** IPv4 only. */
  identification: number;
  dontFragment: boolean;
}

export function createFlowPacket(): FlowPacket {
  return {
    family: 4,
    protocol: 0,
    hash: 0,
    length: 0,
    transport: 0,
    headers: 0,
    payload: 0,
    sequence: 0,
    flags: 0,
    identification: 0,
    dontFragment: false,
  };
}

/**
 * - `run`: it can be part of a run
 * - `alone`: it is of a flow, and no part of a run: no payload, or flags that say more than "here is data"
 * - `other`: it belongs to no flow that could be told by its headers
 */
export type FlowVerdict = 'run' | 'alone' | 'other';

const IPV4_WITHOUT_OPTIONS = 0x45;
/** Longest packet that is looked at (ours): what IPv4's length can say. */
export const MAX_FLOW_PACKET_BYTES = 65_535;
const DONT_FRAGMENT = 0x4000;
/** More fragments, the fragment offset, and the bit that must be 0. */
const FRAGMENT_BITS = 0xbfff;
const RUN_FLAGS = TCP_FLAG.ack | TCP_FLAG.psh | TCP_FLAG.ece;

/** Looks at a packet; `out` means nothing after `other`. Reads nothing outside of the range. */
export function inspectFlow(bytes: Uint8Array, offset: number, length: number, out: FlowPacket): FlowVerdict {
  if (length < IPV4_HEADER_BYTES || length > MAX_FLOW_PACKET_BYTES || offset < 0 || offset + length > bytes.length)
    return 'other';
  out.length = length;
  if (bytes[offset] === IPV4_WITHOUT_OPTIONS) {
    const fragment = readUint16(bytes, offset + 6);
    if ((fragment & FRAGMENT_BITS) !== 0 || readUint16(bytes, offset + 2) !== length) return 'other';
    out.family = 4;
    out.protocol = bytes[offset + 9]!;
    out.transport = IPV4_HEADER_BYTES;
    out.identification = readUint16(bytes, offset + 4);
    out.dontFragment = fragment === DONT_FRAGMENT;
  } else {
    if (bytes[offset]! >>> 4 !== 6 || length < IPV6_HEADER_BYTES) return 'other';
    if (readUint16(bytes, offset + 4) + IPV6_HEADER_BYTES !== length) return 'other';
    out.family = 6;
    out.protocol = bytes[offset + 6]!; // an extension header is no protocol of a flow
    out.transport = IPV6_HEADER_BYTES;
    out.identification = 0;
    out.dontFragment = true;
  }
  if (out.protocol === PROTOCOL.tcp) return inspectTcp(bytes, offset, length, out);
  if (out.protocol === PROTOCOL.udp) return inspectUdp(bytes, offset, length, out);
  return 'other';
}

function inspectTcp(bytes: Uint8Array, offset: number, length: number, out: FlowPacket): FlowVerdict {
  const at = offset + out.transport;
  if (out.transport + TCP_HEADER_BYTES > length) return 'other';
  const words = bytes[at + TCP_DATA_OFFSET]!;
  out.headers = out.transport + (words >>> 4) * 4;
  if (out.headers < out.transport + TCP_HEADER_BYTES || out.headers > length) return 'other';
  out.hash = flowHash(bytes, at);
  out.payload = length - out.headers;
  out.flags = bytes[at + TCP_FLAGS_OFFSET]!;
  out.sequence =
    readUint16(bytes, at + TCP_SEQUENCE_OFFSET) * 0x10000 + readUint16(bytes, at + TCP_SEQUENCE_OFFSET + 2);
  const onlyData = (out.flags & TCP_FLAG.ack) !== 0 && (out.flags & ~RUN_FLAGS) === 0 && (words & 0x0f) === 0;
  return onlyData && out.payload > 0 ? 'run' : 'alone';
}

function inspectUdp(bytes: Uint8Array, offset: number, length: number, out: FlowPacket): FlowVerdict {
  const at = offset + out.transport;
  if (out.transport + UDP_HEADER_BYTES > length) return 'other';
  out.headers = out.transport + UDP_HEADER_BYTES;
  out.hash = flowHash(bytes, at);
  out.payload = length - out.headers;
  out.flags = 0;
  out.sequence = 0;
  // The kernel gives checksums to all that it cuts, so those without one stay without.
  const whole = readUint16(bytes, at + UDP_LENGTH_OFFSET) === length - out.transport;
  return whole && out.payload > 0 && readUint16(bytes, at + UDP_CHECKSUM_OFFSET) !== 0 ? 'run' : 'alone';
}

/** The end of the destination lies right before the ports, in both families. */
function flowHash(bytes: Uint8Array, transport: number): number {
  const address = readUint16(bytes, transport - 4) * 0x10000 + readUint16(bytes, transport - 2);
  const ports = readUint16(bytes, transport) * 0x10000 + readUint16(bytes, transport + 2);
  return (Math.imul(address, 0x85ebca6b) ^ ports) | 0;
}
