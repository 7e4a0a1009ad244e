/**
 * What is wrong with a packet, for counters, or 'ok'. Anything but 'ok' is dropped, and never more than dropped (RFC 9484, 7.2).
 * - `empty`: no bytes
 * - `bad_version`: neither 4 nor 6
 * - `truncated`: shorter than its fixed header
 * - `bad_header_length`: IPv4 header length below 20 or beyond the packet
 * - `bad_total_length`: the length in the header is not the packet's
 * - `bad_extension`: an IPv6 extension header that is cut off, out of place, or one too many
 */
export type PacketVerdict =
  | 'ok'
  | 'empty'
  | 'bad_version'
  | 'truncated'
  | 'bad_header_length'
  | 'bad_total_length'
  | 'bad_extension';
