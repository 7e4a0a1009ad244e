/** Bytes of struct virtio_net_hdr, which comes before each packet of a TUN device with IFF_VNET_HDR, in both directions. */
export const VNET_HEADER_BYTES = 10;

/** The kernel's values of `segmentation`: what the packet is to be cut into. */
export const SEGMENTATION = { none: 0, tcp4: 1, tcp6: 4, udp: 5 } as const;

/** In the flags: the checksum field holds the sum of the pseudo-header only, and the rest is to be added. */
const NEEDS_CHECKSUM = 1;
/** In the kind of segmentation: the first segment has CWR set (RFC 3168, 6.1.2). */
const ECN = 0x80;

/** struct virtio_net_hdr (virtio 1.2, 5.1.6). One object is filled over and over. */
export interface VnetHeader {
  needsChecksum: boolean;
  /** One of SEGMENTATION, or a kind that is not known here. */
  segmentation: number;
  ecn: boolean;
  /** Bytes of all headers of each segment. A hint: the headers themselves decide. */
  headerLength: number;
  /** Bytes of payload in each segment but the last. */
  segmentSize: number;
  /** Bytes from the start of the packet to where the sum begins, and from there to the checksum field. */
  checksumStart: number;
  checksumOffset: number;
}

export function createVnetHeader(): VnetHeader {
  return {
    needsChecksum: false,
    segmentation: SEGMENTATION.none,
    ecn: false,
    headerLength: 0,
    segmentSize: 0,
    checksumStart: 0,
    checksumOffset: 0,
  };
}

/** Fills `out` from the bytes at `offset`; false when there are fewer than VNET_HEADER_BYTES. */
export function readVnetHeader(bytes: Uint8Array, offset: number, length: number, out: VnetHeader): boolean {
  if (length < VNET_HEADER_BYTES) return false;
  const kind = bytes[offset + 1]!;
  out.needsChecksum = (bytes[offset]! & NEEDS_CHECKSUM) !== 0;
  out.segmentation = kind & ~ECN;
  out.ecn = (kind & ECN) !== 0;
  out.headerLength = readUint16LE(bytes, offset + 2);
  out.segmentSize = readUint16LE(bytes, offset + 4);
  out.checksumStart = readUint16LE(bytes, offset + 6);
  out.checksumOffset = readUint16LE(bytes, offset + 8);
  return true;
}

export function writeVnetHeader(bytes: Uint8Array, offset: number, header: Readonly<VnetHeader>): void {
  bytes[offset] = header.needsChecksum ? NEEDS_CHECKSUM : 0;
  bytes[offset + 1] = header.segmentation | (header.ecn ? ECN : 0);
  writeUint16LE(bytes, offset + 2, header.headerLength);
  writeUint16LE(bytes, offset + 4, header.segmentSize);
  writeUint16LE(bytes, offset + 6, header.checksumStart);
  writeUint16LE(bytes, offset + 8, header.checksumOffset);
}

// The kernel's own byte order unless TUNSETVNETBE is set: see libc.ts for which machines that is.
function readUint16LE(bytes: Uint8Array, offset: number): number {
  return bytes[offset]! | (bytes[offset + 1]! << 8);
}

function writeUint16LE(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value;
  bytes[offset + 1] = value >>> 8;
}
