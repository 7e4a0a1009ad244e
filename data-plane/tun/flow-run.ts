import { foldChecksum, foldSum, sumWords } from '../ip/checksum.ts';
import { writeIpv4Checksum, writeUint16 } from '../ip/ipv4-header.ts';
import { PROTOCOL } from '../ip/protocol.ts';
import {
  TCP_ACKNOWLEDGMENT_OFFSET,
  TCP_CHECKSUM_OFFSET,
  TCP_FLAG,
  TCP_FLAGS_OFFSET,
  UDP_CHECKSUM_OFFSET,
  UDP_LENGTH_OFFSET,
} from '../ip/transport-header.ts';
import { WordBuffer } from '../ip/word-buffer.ts';
import { copyBytes } from '../os/copy-bytes.ts';
import { type FlowPacket, MAX_FLOW_PACKET_BYTES } from './flow-packet.ts';
import { createVnetHeader, SEGMENTATION, VNET_HEADER_BYTES, writeVnetHeader } from './vnet-header.ts';

/** Datagrams in one run: what every kernel that segments UDP takes. */
const MAX_DATAGRAMS = 64;
const IPV4_TTL_OFFSET = 8;
const IPV4_ADDRESSES_OFFSET = 12;
const IPV6_ADDRESSES_OFFSET = 8;
const PORTS_BYTES = 4;

/**
 * Consecutive packets of one flow, put together in the order in which they came: one packet with the headers of the first and the payload of
 * all, that the kernel can cut into the same packets again. A single packet stays as it came, to the bit.
 */
export class FlowRun<Owner> {
  /** Room for the vnet header, then the packet. */
  readonly buffer = new WordBuffer(VNET_HEADER_BYTES + MAX_FLOW_PACKET_BYTES);
  /** Packets in it; 0 when it is free. */
  packets = 0;
  /** Bytes of these, each with its headers. */
  packetBytes = 0;
  /** Bytes of the buffer that are in use, vnet header included. */
  length = 0;
  owner: Owner | undefined;

  readonly #vnet = createVnetHeader();
  #hash = 0;
  #v4 = true;
  #tcp = true;
  #transport = 0;
  #headers = 0;
  #segmentSize = 0;
  #nextSequence = 0;
  #identification = 0;
  #dontFragment = false;
  /** Nothing may follow: the last packet was shorter, or had PSH. */
  #complete = false;
  #push = false;
  /** The checksums of the first packet are right: looked at when a second one comes. */
  #verified = false;

  /** Begins a new run, which must be free. */
  begin(bytes: Uint8Array, offset: number, packet: FlowPacket, owner: Owner): void {
    copyBytes(bytes, offset, this.buffer.bytes, VNET_HEADER_BYTES, packet.length);
    this.packets = 1;
    this.packetBytes = packet.length;
    this.length = VNET_HEADER_BYTES + packet.length;
    this.owner = owner;
    this.#hash = packet.hash;
    this.#v4 = packet.family === 4;
    this.#tcp = packet.protocol === PROTOCOL.tcp;
    this.#transport = packet.transport;
    this.#headers = packet.headers;
    this.#segmentSize = packet.payload;
    this.#nextSequence = (packet.sequence + packet.payload) >>> 0;
    this.#identification = packet.identification;
    this.#dontFragment = packet.dontFragment;
    this.#push = (packet.flags & TCP_FLAG.psh) !== 0;
    this.#complete = this.#push;
    this.#verified = false;
  }

  /** Whether the packet has the addresses, protocol and ports of this run. */
  isOf(bytes: Uint8Array, offset: number, packet: FlowPacket): boolean {
    if (this.packets === 0 || this.#hash !== packet.hash || this.#v4 !== (packet.family === 4)) return false;
    if (this.#tcp !== (packet.protocol === PROTOCOL.tcp) || this.#transport !== packet.transport) return false;
    const from = this.#v4 ? IPV4_ADDRESSES_OFFSET : IPV6_ADDRESSES_OFFSET;
    return this.#sameBytes(bytes, offset, from, packet.transport + PORTS_BYTES);
  }

  /** Adds the packet, which `isOf` this run, if it is what would be cut off next; false leaves all as it was. */
  add(bytes: Uint8Array, offset: number, packet: FlowPacket, owner: Owner): boolean {
    if (this.#complete || owner !== this.owner || packet.headers !== this.#headers) return false;
    if (packet.payload > this.#segmentSize || this.length + packet.payload > this.buffer.bytes.length) return false;
    if (this.#tcp ? packet.sequence !== this.#nextSequence : this.packets === MAX_DATAGRAMS) return false;
    if (!this.#sameIpHeader(bytes, offset, packet)) return false;
    if (this.#tcp && !this.#sameTcpHeader(bytes, offset, packet)) return false;
    if (!this.#verifyFirst()) return false;
    const at = this.length;
    copyBytes(bytes, offset + packet.headers, this.buffer.bytes, at, packet.payload);
    // The kernel will make new checksums: one that is wrong must not be made right.
    if (!this.#checksumsAreRight(bytes, offset, packet.length, this.buffer.sum(at, packet.payload))) return false;
    this.length += packet.payload;
    this.packetBytes += packet.length;
    this.packets++;
    this.#nextSequence = (packet.sequence + packet.payload) >>> 0;
    this.#push = (packet.flags & TCP_FLAG.psh) !== 0;
    this.#complete = this.#push || packet.payload < this.#segmentSize;
    return true;
  }

  /** Writes the vnet header, and the headers for all packets of the run: it is ready to be given to the kernel then. */
  finish(): void {
    const { bytes } = this.buffer;
    if (this.packets === 1) {
      bytes.fill(0, 0, VNET_HEADER_BYTES);
      return;
    }
    const packetLength = this.length - VNET_HEADER_BYTES;
    const transport = VNET_HEADER_BYTES + this.#transport;
    const vnet = this.#vnet;
    vnet.needsChecksum = true;
    vnet.segmentation = this.#tcp ? (this.#v4 ? SEGMENTATION.tcp4 : SEGMENTATION.tcp6) : SEGMENTATION.udp;
    vnet.headerLength = this.#headers;
    vnet.segmentSize = this.#segmentSize;
    vnet.checksumStart = this.#transport;
    vnet.checksumOffset = this.#tcp ? TCP_CHECKSUM_OFFSET : UDP_CHECKSUM_OFFSET;
    writeVnetHeader(bytes, 0, vnet);
    if (this.#v4) {
      writeUint16(bytes, VNET_HEADER_BYTES + 2, packetLength);
      writeIpv4Checksum(bytes, VNET_HEADER_BYTES);
    } else {
      writeUint16(bytes, VNET_HEADER_BYTES + 4, packetLength - this.#transport);
    }
    if (!this.#tcp) writeUint16(bytes, transport + UDP_LENGTH_OFFSET, packetLength - this.#transport);
    else if (this.#push) bytes[transport + TCP_FLAGS_OFFSET]! |= TCP_FLAG.psh;
    const pseudo = foldSum(this.#pseudoSum(bytes, VNET_HEADER_BYTES, packetLength));
    writeUint16(bytes, transport + vnet.checksumOffset, pseudo);
  }

  /** Frees it. */
  clear(): void {
    this.packets = 0;
    this.owner = undefined;
  }

  #sameIpHeader(bytes: Uint8Array, offset: number, packet: FlowPacket): boolean {
    if (!this.#v4) return this.#sameBytes(bytes, offset, 0, 4) && this.#sameBytes(bytes, offset, 6, 8);
    if (!this.#sameBytes(bytes, offset, 0, 2) || !this.#sameBytes(bytes, offset, 6, IPV4_TTL_OFFSET + 1)) return false;
    // Identifications count up when the kernel cuts; with DF they mean nothing (RFC 6864, 4.1).
    return this.#dontFragment || packet.identification === ((this.#identification + this.packets) & 0xffff);
  }

  /** All but sequence number, PSH and checksum. */
  #sameTcpHeader(bytes: Uint8Array, offset: number, packet: FlowPacket): boolean {
    const first = this.buffer.bytes[VNET_HEADER_BYTES + this.#transport + TCP_FLAGS_OFFSET]!;
    if (((first ^ packet.flags) & ~TCP_FLAG.psh) !== 0) return false;
    const at = this.#transport;
    return (
      this.#sameBytes(bytes, offset, at + TCP_ACKNOWLEDGMENT_OFFSET, at + TCP_FLAGS_OFFSET) &&
      this.#sameBytes(bytes, offset, at + TCP_FLAGS_OFFSET + 1, at + TCP_CHECKSUM_OFFSET) &&
      this.#sameBytes(bytes, offset, at + TCP_CHECKSUM_OFFSET + 2, this.#headers)
    );
  }

  #sameBytes(bytes: Uint8Array, offset: number, from: number, to: number): boolean {
    const own = this.buffer.bytes;
    for (let i = from; i < to; i++) if (bytes[offset + i] !== own[VNET_HEADER_BYTES + i]) return false;
    return true;
  }

  #verifyFirst(): boolean {
    if (this.#verified) return true;
    const payload = this.buffer.sum(VNET_HEADER_BYTES + this.#headers, this.#segmentSize);
    const length = this.#headers + this.#segmentSize;
    this.#verified = this.#checksumsAreRight(this.buffer.bytes, VNET_HEADER_BYTES, length, payload);
    this.#complete = !this.#verified;
    return this.#verified;
  }

  #checksumsAreRight(bytes: Uint8Array, offset: number, length: number, payloadSum: number): boolean {
    if (this.#v4 && foldChecksum(sumWords(bytes, offset, this.#transport)) !== 0) return false;
    const pseudo = this.#pseudoSum(bytes, offset, length);
    const header = sumWords(bytes, offset + this.#transport, this.#headers - this.#transport, pseudo);
    return foldChecksum(header + payloadSum) === 0;
  }

  #pseudoSum(bytes: Uint8Array, offset: number, length: number): number {
    const rest = (this.#tcp ? PROTOCOL.tcp : PROTOCOL.udp) + (length - this.#transport);
    return this.#v4
      ? sumWords(bytes, offset + IPV4_ADDRESSES_OFFSET, 8, rest)
      : sumWords(bytes, offset + IPV6_ADDRESSES_OFFSET, 32, rest);
  }
}
