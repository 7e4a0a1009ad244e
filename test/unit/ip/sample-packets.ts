import fc from 'fast-check';
import { writeUint16 } from '../../../data-plane/ip/ipv4-header.ts';
import { writeIpHeader } from '../../../data-plane/ip/write-ip-header.ts';

export interface Sample {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly protocol: number;
  readonly ttl: number;
  readonly payload: Uint8Array;
}

export const V4_A = new Uint8Array([10, 99, 0, 1]);
export const V4_B = new Uint8Array([10, 99, 0, 2]);
export const V6_A = new Uint8Array([0xfd, 0, 0, 0x99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
export const V6_B = new Uint8Array([0xfd, 0, 0, 0x99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);

/** A packet without options or extension headers. */
export function packet(sample: Partial<Sample> & { readonly family: 4 | 6 }): Uint8Array {
  const payload = sample.payload ?? new Uint8Array(16);
  const out = new Uint8Array((sample.family === 4 ? 20 : 40) + payload.length);
  const header = {
    source: sample.source ?? (sample.family === 4 ? V4_A : V6_A),
    destination: sample.destination ?? (sample.family === 4 ? V4_B : V6_B),
    protocol: sample.protocol ?? 17,
    ttl: sample.ttl ?? 64,
    trafficClass: 0,
  };
  const at = writeIpHeader(out, 0, header, payload.length);
  out.set(payload, at);
  return out;
}

/** An IPv6 packet with these extension headers, given as [type, bytes without the first]. */
export function withExtensions(
  extensions: readonly (readonly [number, Uint8Array])[],
  protocol: number,
  rest: Uint8Array,
) {
  const chain = extensions.map(([, body], i) => {
    const next = extensions[i + 1]?.[0] ?? protocol;
    return [next, ...body];
  });
  return packet({
    family: 6,
    protocol: extensions[0]?.[0] ?? protocol,
    payload: Uint8Array.from([...chain.flat(), ...rest]),
  });
}

/** Puts a packet between two guards of 0xff, so that a read past its end does not find zeros. */
export function embed(bytes: Uint8Array, before = 7): { buffer: Uint8Array; offset: number } {
  const buffer = new Uint8Array(before + bytes.length + 64).fill(0xff);
  buffer.set(bytes, before);
  return { buffer, offset: before };
}

export const anyPayload = fc.uint8Array({ maxLength: 1500 });
export const anyByte = fc.integer({ min: 0, max: 255 });

export const anyPacket = fc
  .record({ family: fc.constantFrom(4 as const, 6 as const), protocol: anyByte, ttl: anyByte, payload: anyPayload })
  .filter(({ family, protocol }) => family === 4 || ![0, 43, 44, 51, 60, 135, 139, 140].includes(protocol))
  .map((sample) => ({ ...sample, bytes: packet(sample) }));

/** IPv4 with options: a header of 24 to 60 bytes. */
export const anyIpv4WithOptions = fc
  .record({ words: fc.integer({ min: 1, max: 10 }), ttl: anyByte })
  .map(({ words, ttl }) => {
    const payload = new Uint8Array(words * 4 + 8).fill(1);
    const bytes = packet({ family: 4, ttl, payload });
    bytes[0] = 0x45 + words;
    writeUint16(bytes, 10, 0);
    let sum = 0;
    for (let i = 0; i < 20 + words * 4; i += 2) sum += (bytes[i]! << 8) | bytes[i + 1]!;
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    writeUint16(bytes, 10, ~sum & 0xffff);
    return bytes;
  });
