/** TCP (RFC 9293, 3.1) and UDP (RFC 768) as far as offload needs them. Offsets count from the start of their header. */

export const TCP_HEADER_BYTES = 20;
export const TCP_SEQUENCE_OFFSET = 4;
export const TCP_ACKNOWLEDGMENT_OFFSET = 8;
/** Upper 4 bits: words of the header; lower 4: reserved, one of them AE of accurate ECN. */
export const TCP_DATA_OFFSET = 12;
export const TCP_FLAGS_OFFSET = 13;
export const TCP_WINDOW_OFFSET = 14;
export const TCP_CHECKSUM_OFFSET = 16;
export const TCP_URGENT_OFFSET = 18;

export const TCP_FLAG = {
  fin: 0x01,
  syn: 0x02,
  rst: 0x04,
  psh: 0x08,
  ack: 0x10,
  urg: 0x20,
  ece: 0x40,
  cwr: 0x80,
} as const;

export const UDP_HEADER_BYTES = 8;
export const UDP_LENGTH_OFFSET = 4;
export const UDP_CHECKSUM_OFFSET = 6;
