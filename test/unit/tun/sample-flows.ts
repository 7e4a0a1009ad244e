import fc from 'fast-check';
import { writeUint16 } from '../../../data-plane/ip/ipv4-header.ts';
import { createVnetHeader, VNET_HEADER_BYTES, writeVnetHeader } from '../../../data-plane/tun/vnet-header.ts';
import { naiveChecksum } from '../ip/naive-checksum.ts';
import { packet } from '../ip/sample-packets.ts';

/** A TCP or UDP packet of any size, with right checksums unless it is one for the kernel to cut. */
export interface Sample {
  readonly family: 4 | 6;
  readonly protocol: 'tcp' | 'udp';
  readonly sourcePort: number;
  readonly ttl: number;
  readonly dontFragment: boolean;
  readonly identification: number;
  readonly sequence: number;
  readonly acknowledgment: number;
  readonly flags: number;
  readonly window: number;
  /** A multiple of 4 bytes, up to 40. */
  readonly options: Uint8Array;
  readonly payload: Uint8Array;
}

export const FIN = 1;
export const PSH = 8;
export const ACK = 16;
export const ECE = 64;
export const CWR = 128;
const TCP = 6;
const UDP = 17;

const anyWord = fc.integer({ min: 0, max: 0xffff });
// Sequence numbers wrap: half of the flows begin right before that.
const anySequence = fc.oneof(
  fc.integer({ min: 0, max: 0xffffffff }),
  fc.integer({ min: 0xffffffff - 3000, max: 0xffffffff }),
);

export function anySample(maxPayload: number): fc.Arbitrary<Sample> {
  return fc.record({
    family: fc.constantFrom(4 as const, 6 as const),
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    sourcePort: fc.integer({ min: 1, max: 4 }),
    ttl: fc.integer({ min: 1, max: 255 }),
    dontFragment: fc.boolean(),
    identification: anyWord,
    sequence: anySequence,
    acknowledgment: anySequence,
    flags: fc.constantFrom(ACK, ACK | PSH, ACK | ECE, ACK | PSH | ECE),
    window: anyWord,
    options: fc.integer({ min: 0, max: 10 }).chain((n) => fc.uint8Array({ minLength: n * 4, maxLength: n * 4 })),
    payload: fc
      .tuple(fc.integer({ min: 1, max: maxPayload }), fc.uint8Array({ minLength: 1, maxLength: 61 }))
      .map(([length, pattern]) => Uint8Array.from({ length }, (_, i) => pattern[i % pattern.length]! + (i >> 8))),
  });
}

export function ipHeaderBytes(sample: Sample): number {
  return sample.family === 4 ? 20 : 40;
}

export function headerBytes(sample: Sample): number {
  return ipHeaderBytes(sample) + (sample.protocol === 'tcp' ? 20 + sample.options.length : 8);
}

/** `partial`: the checksum field has the sum of the pseudo-header alone, as the kernel leaves it. */
export function buildPacket(sample: Sample, partial = false): Uint8Array {
  const transport = transportHeader(sample);
  const bytes = packet({
    family: sample.family,
    protocol: sample.protocol === 'tcp' ? TCP : UDP,
    ttl: sample.ttl,
    payload: Uint8Array.from([...transport, ...sample.payload]),
  });
  const at = ipHeaderBytes(sample);
  if (sample.family === 4) {
    writeUint16(bytes, 4, sample.identification);
    writeUint16(bytes, 6, sample.dontFragment ? 0x4000 : 0);
    writeUint16(bytes, 10, 0);
    writeUint16(bytes, 10, naiveChecksum(bytes.subarray(0, at)));
  }
  const pseudo = pseudoHeader(bytes);
  const field = at + (sample.protocol === 'tcp' ? 16 : 6);
  if (partial) {
    writeUint16(bytes, field, ~naiveChecksum(pseudo) & 0xffff);
  } else {
    const checksum = naiveChecksum(Uint8Array.from([...pseudo, ...bytes.subarray(at)]));
    writeUint16(bytes, field, sample.protocol === 'udp' ? checksum || 0xffff : checksum);
  }
  return bytes;
}

/** What the kernel gives for a packet that is to be cut: a vnet header before it. */
export function buildFrame(sample: Sample, segmentSize: number): Uint8Array {
  const vnet = createVnetHeader();
  vnet.needsChecksum = true;
  vnet.segmentation = sample.protocol === 'udp' ? 5 : sample.family === 4 ? 1 : 4;
  vnet.ecn = (sample.flags & CWR) !== 0;
  vnet.headerLength = headerBytes(sample);
  vnet.segmentSize = segmentSize;
  vnet.checksumStart = ipHeaderBytes(sample);
  vnet.checksumOffset = sample.protocol === 'tcp' ? 16 : 6;
  const bytes = buildPacket(sample, true);
  const frame = new Uint8Array(VNET_HEADER_BYTES + bytes.length);
  writeVnetHeader(frame, 0, vnet);
  frame.set(bytes, VNET_HEADER_BYTES);
  return frame;
}

/** The packets that a packet for the kernel to cut stands for, made one by one. */
export function cutNaively(sample: Sample, segmentSize: number): Uint8Array[] {
  const packets: Uint8Array[] = [];
  for (let at = 0; at < sample.payload.length; at += segmentSize) {
    const last = at + segmentSize >= sample.payload.length;
    const flags = sample.flags & (last ? 0xff : ~(FIN | PSH)) & (at === 0 ? 0xff : ~CWR);
    const identification = (sample.identification + packets.length) & 0xffff;
    const payload = sample.payload.subarray(at, at + segmentSize);
    packets.push(buildPacket({ ...sample, flags, identification, sequence: (sample.sequence + at) >>> 0, payload }));
  }
  return packets;
}

export function pseudoHeader(bytes: Uint8Array): Uint8Array {
  const v4 = bytes[0]! >> 4 === 4;
  const [addresses, at] = v4 ? [bytes.subarray(12, 20), 20] : [bytes.subarray(8, 40), 40];
  const length = bytes.length - at;
  return Uint8Array.from([...addresses, 0, bytes[v4 ? 9 : 6]!, length >> 8, length & 0xff]);
}

function transportHeader(sample: Sample): Uint8Array {
  if (sample.protocol === 'udp') {
    const header = new Uint8Array(8);
    writeUint16(header, 0, sample.sourcePort);
    writeUint16(header, 2, 443);
    writeUint16(header, 4, 8 + sample.payload.length);
    return header;
  }
  const header = new Uint8Array(20 + sample.options.length);
  const view = new DataView(header.buffer);
  view.setUint16(0, sample.sourcePort);
  view.setUint16(2, 443);
  view.setUint32(4, sample.sequence);
  view.setUint32(8, sample.acknowledgment);
  view.setUint8(12, (header.length / 4) << 4);
  view.setUint8(13, sample.flags);
  view.setUint16(14, sample.window);
  header.set(sample.options, 20);
  return header;
}
