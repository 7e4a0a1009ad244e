/** What the headers of one packet say. One object is filled over and over: copy what must outlive the next packet. */
export interface PacketInfo {
  family: 4 | 6;
  /** Bytes before the upper-layer header: options and extension headers included. */
  headerLength: number;
  /** Bytes of the whole packet. */
  totalLength: number;
  /** The upper-layer protocol (for IPv6 the one after the extension headers). */
  protocol: number;
  /** Bytes from the start of the packet to the addresses, which are `addressLength` (4 or 16) bytes each. */
  sourceOffset: number;
  destinationOffset: number;
  addressLength: 4 | 16;
  /** It starts in the middle of a fragmented packet, so there is no upper-layer header at `headerLength`. */
  laterFragment: boolean;
  /** It is a part of a fragmented packet, the first included. */
  fragment: boolean;
}

export function createPacketInfo(): PacketInfo {
  return {
    family: 4,
    headerLength: 0,
    totalLength: 0,
    protocol: 0,
    sourceOffset: 0,
    destinationOffset: 0,
    addressLength: 4,
    laterFragment: false,
    fragment: false,
  };
}
