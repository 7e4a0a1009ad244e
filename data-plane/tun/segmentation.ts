import { foldChecksum, sumWords } from '../ip/checksum.ts';
import { IPV4_CHECKSUM_OFFSET, readUint16, writeUint16 } from '../ip/ipv4-header.ts';
import { inspectPacket } from '../ip/packet.ts';
import { createPacketInfo } from '../ip/packet-info.ts';
import { PROTOCOL } from '../ip/protocol.ts';
import {
  TCP_CHECKSUM_OFFSET,
  TCP_DATA_OFFSET,
  TCP_FLAG,
  TCP_FLAGS_OFFSET,
  TCP_HEADER_BYTES,
  TCP_SEQUENCE_OFFSET,
  UDP_CHECKSUM_OFFSET,
  UDP_HEADER_BYTES,
  UDP_LENGTH_OFFSET,
} from '../ip/transport-header.ts';
import type { WordBuffer } from '../ip/word-buffer.ts';
import { createVnetHeader, readVnetHeader, SEGMENTATION, VNET_HEADER_BYTES } from './vnet-header.ts';

/** Longest headers of a packet that is cut (ours): IPv4 and TCP with all options have 120, IPv6 with extensions seldom more. */
const MAX_HEADER_BYTES = 256;
const IPV4_LENGTH_OFFSET = 2;
const IPV4_IDENTIFICATION_OFFSET = 4;
const IPV6_LENGTH_OFFSET = 4;
const IPV6_HEADER_BYTES = 40;

/**
 * Cuts what the kernel gives in one read, a vnet header and a packet of up to 64 KiB, into packets that fit the link, with their checksums.
 * `start` it, then take packets while `next` is true: each lies at `offset`, `length` in the buffer until `next` is called again.
 *
 * No payload is copied: the header of each segment is written before its payload, over the end of the segment that was taken before.
 */
export class Segmentation {
  /** The packet that `next` made. */
  offset = 0;
  length = 0;

  #buffer: WordBuffer;
  readonly #vnet = createVnetHeader();
  readonly #info = createPacketInfo();
  /** The headers as they came: those in the buffer are overwritten. */
  readonly #template = new Uint8Array(MAX_HEADER_BYTES);
  #templateLength = 0;
  /** What is left: payload from `#at` to `#end`, of which each packet takes `#size`. */
  #at = 0;
  #end = 0;
  #size = 0;
  #first = true;
  #v4 = true;
  #tcp = true;
  #transport = 0;
  #identification = 0;
  #sequence = 0;
  #flags = 0;
  /** Sums of what is the same in all segments. */
  #ipSum = 0;
  #transportSum = 0;

  constructor(buffer: WordBuffer) {
    this.#buffer = buffer;
  }

  /** Goes on with another buffer; what is left of the last one is forgotten. */
  use(buffer: WordBuffer): void {
    this.#buffer = buffer;
    this.#at = this.#end = 0;
  }

  /** Begins with the `length` bytes at `offset` (even), vnet header included; false when they make no sense, and are to be dropped. */
  start(offset: number, length: number): boolean {
    this.#at = this.#end = 0;
    if (offset + length > this.#buffer.bytes.length) return false;
    const vnet = this.#vnet;
    if (!readVnetHeader(this.#buffer.bytes, offset, length, vnet)) return false;
    const packet = offset + VNET_HEADER_BYTES;
    const packetLength = length - VNET_HEADER_BYTES;
    if (vnet.segmentation !== SEGMENTATION.none) return this.#startSegments(packet, packetLength);
    if (vnet.needsChecksum && !this.#completeChecksum(packet, packetLength)) return false;
    this.startWhole(packet, packetLength);
    return packetLength > 0;
  }

  /** Begins with one packet that comes without a vnet header and stays as it is. */
  startWhole(offset: number, length: number): void {
    this.#templateLength = 0;
    this.#at = offset;
    this.#end = offset + length;
    this.#size = length;
  }

  /** Makes the next packet; false when there is none. */
  next(): boolean {
    const payload = Math.min(this.#size, this.#end - this.#at);
    if (payload <= 0) return false;
    this.offset = this.#at - this.#templateLength;
    this.length = this.#templateLength + payload;
    if (this.#templateLength > 0) this.#writeHeaders(payload);
    this.#at += payload;
    this.#first = false;
    return true;
  }

  #completeChecksum(packet: number, length: number): boolean {
    const { checksumStart, checksumOffset } = this.#vnet;
    const field = checksumStart + checksumOffset;
    if (field + 2 > length) return false;
    const checksum = foldChecksum(this.#buffer.sum(packet + checksumStart, length - checksumStart));
    // In UDP a 0 means that there is no checksum; for the others the two zeros of one's complement are the same.
    writeUint16(this.#buffer.bytes, packet + field, checksum || 0xffff);
    return true;
  }

  #startSegments(packet: number, length: number): boolean {
    const { bytes } = this.#buffer;
    const { segmentation, segmentSize } = this.#vnet;
    const info = this.#info;
    if (inspectPacket(bytes, packet, length, info) !== 'ok' || info.fragment || segmentSize === 0) return false;
    this.#v4 = info.family === 4;
    this.#tcp = info.protocol === PROTOCOL.tcp;
    if (segmentation !== this.#expectedSegmentation(info.protocol)) return false;
    const transport = info.headerLength;
    const headers = transport + this.#transportHeaderBytes(packet + transport, length - transport);
    if (headers === transport || headers >= length || headers > MAX_HEADER_BYTES) return false;
    this.#template.set(bytes.subarray(packet, packet + headers));
    this.#templateLength = headers;
    this.#transport = transport;
    this.#at = packet + headers;
    this.#end = packet + length;
    this.#size = segmentSize;
    this.#first = true;
    this.#clearTemplate();
    return true;
  }

  #expectedSegmentation(protocol: number): number {
    if (protocol === PROTOCOL.udp) return SEGMENTATION.udp;
    if (protocol !== PROTOCOL.tcp) return -1;
    return this.#v4 ? SEGMENTATION.tcp4 : SEGMENTATION.tcp6;
  }

  /** 0 when there is no whole header. */
  #transportHeaderBytes(at: number, room: number): number {
    if (!this.#tcp) return room >= UDP_HEADER_BYTES ? UDP_HEADER_BYTES : 0;
    if (room < TCP_HEADER_BYTES) return 0;
    const header = (this.#buffer.bytes[at + TCP_DATA_OFFSET]! >>> 4) * 4;
    return header >= TCP_HEADER_BYTES && header <= room ? header : 0;
  }

  /** Takes out of the template what differs between segments, and sums up the rest. */
  #clearTemplate(): void {
    const header = this.#template;
    const transport = this.#transport;
    if (this.#v4) {
      this.#identification = readUint16(header, IPV4_IDENTIFICATION_OFFSET);
      writeUint16(header, IPV4_LENGTH_OFFSET, 0);
      writeUint16(header, IPV4_IDENTIFICATION_OFFSET, 0);
      writeUint16(header, IPV4_CHECKSUM_OFFSET, 0);
      this.#ipSum = sumWords(header, 0, transport);
    }
    if (this.#tcp) {
      this.#sequence =
        readUint16(header, transport + TCP_SEQUENCE_OFFSET) * 0x10000 +
        readUint16(header, transport + TCP_SEQUENCE_OFFSET + 2);
      this.#flags = header[transport + TCP_FLAGS_OFFSET]!;
      header.fill(0, transport + TCP_SEQUENCE_OFFSET, transport + TCP_SEQUENCE_OFFSET + 4);
      header[transport + TCP_FLAGS_OFFSET] = 0;
      writeUint16(header, transport + TCP_CHECKSUM_OFFSET, 0);
    } else {
      writeUint16(header, transport + UDP_LENGTH_OFFSET, 0);
      writeUint16(header, transport + UDP_CHECKSUM_OFFSET, 0);
    }
    const { sourceOffset, addressLength, protocol } = this.#info;
    const addresses = sumWords(header, sourceOffset, addressLength * 2, protocol);
    this.#transportSum = sumWords(header, transport, this.#templateLength - transport, addresses);
  }

  #writeHeaders(payload: number): void {
    const { bytes } = this.#buffer;
    const { offset, length } = this;
    const transport = offset + this.#transport;
    const upperLength = length - this.#transport;
    // A loop: for some 52 bytes it is faster than a call that copies.
    for (let i = 0; i < this.#templateLength; i++) bytes[offset + i] = this.#template[i]!;
    if (this.#v4) {
      writeUint16(bytes, offset + IPV4_LENGTH_OFFSET, length);
      writeUint16(bytes, offset + IPV4_IDENTIFICATION_OFFSET, this.#identification);
      const checksum = foldChecksum(this.#ipSum + length + this.#identification);
      writeUint16(bytes, offset + IPV4_CHECKSUM_OFFSET, checksum);
      this.#identification = (this.#identification + 1) & 0xffff;
    } else {
      writeUint16(bytes, offset + IPV6_LENGTH_OFFSET, length - IPV6_HEADER_BYTES);
    }
    const sum = this.#transportSum + upperLength + this.#buffer.sum(this.#at, payload);
    if (this.#tcp) this.#writeTcp(bytes, transport, payload, sum);
    else this.#writeUdp(bytes, transport, upperLength, sum);
  }

  #writeTcp(bytes: Uint8Array, transport: number, payload: number, sum: number): void {
    let flags = this.#flags;
    if (this.#at + payload < this.#end) flags &= ~(TCP_FLAG.fin | TCP_FLAG.psh);
    if (!this.#first) flags &= ~TCP_FLAG.cwr;
    const high = this.#sequence >>> 16;
    const low = this.#sequence & 0xffff;
    writeUint16(bytes, transport + TCP_SEQUENCE_OFFSET, high);
    writeUint16(bytes, transport + TCP_SEQUENCE_OFFSET + 2, low);
    bytes[transport + TCP_FLAGS_OFFSET] = flags;
    writeUint16(bytes, transport + TCP_CHECKSUM_OFFSET, foldChecksum(sum + high + low + flags));
    this.#sequence = (this.#sequence + payload) >>> 0;
  }

  #writeUdp(bytes: Uint8Array, transport: number, upperLength: number, sum: number): void {
    writeUint16(bytes, transport + UDP_LENGTH_OFFSET, upperLength);
    writeUint16(bytes, transport + UDP_CHECKSUM_OFFSET, foldChecksum(sum + upperLength) || 0xffff);
  }
}
