import { IPV4_HEADER_BYTES, writeIpv4Checksum, writeUint16 } from './ipv4-header.ts';
import { IPV6_HEADER_BYTES } from './ipv6-header.ts';

/** The header of a packet that this host makes itself: no options, no fragments. */
export interface IpHeader {
  /** 4 or 16 bytes each, of one family. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly protocol: number;
  readonly ttl: number;
  /** Type of service or traffic class. */
  readonly trafficClass: number;
}

/** Bytes of the header for addresses of this length. */
export function ipHeaderBytes(addressLength: number): number {
  return addressLength === 4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES;
}

/** Writes the header for `payloadLength` bytes that follow it and returns the header's length. Throws RangeError without room. */
export function writeIpHeader(out: Uint8Array, offset: number, header: IpHeader, payloadLength: number): number {
  const v4 = header.source.length === 4;
  const headerLength = ipHeaderBytes(header.source.length);
  if (header.source.length !== header.destination.length || (!v4 && header.source.length !== 16)) {
    throw new RangeError(`addresses of ${header.source.length} and ${header.destination.length} bytes`);
  }
  if (offset + headerLength + payloadLength > out.length || headerLength + payloadLength > 0xffff) {
    throw new RangeError(`no room for a packet of ${headerLength + payloadLength} bytes at ${offset} of ${out.length}`);
  }
  out.fill(0, offset, offset + headerLength);
  if (v4) {
    out[offset] = 0x45;
    out[offset + 1] = header.trafficClass;
    writeUint16(out, offset + 2, headerLength + payloadLength);
    out[offset + 6] = 0x40; // DF, so that an identification of 0 is fine (RFC 6864, 4.1)
    out[offset + 8] = header.ttl;
    out[offset + 9] = header.protocol;
    out.set(header.source, offset + 12);
    out.set(header.destination, offset + 16);
    writeIpv4Checksum(out, offset);
  } else {
    out[offset] = 0x60 | (header.trafficClass >>> 4);
    out[offset + 1] = (header.trafficClass & 0x0f) << 4;
    writeUint16(out, offset + 4, payloadLength);
    out[offset + 6] = header.protocol;
    out[offset + 7] = header.ttl;
    out.set(header.source, offset + 8);
    out.set(header.destination, offset + 24);
  }
  return headerLength;
}
