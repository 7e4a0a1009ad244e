/** The Internet checksum (RFC 1071): sums of big-endian 16-bit words, kept unfolded in a number until `foldChecksum`. */

/** Adds the words of a range to `sum`; a last odd byte counts as the upper half of a word. */
export function sumWords(bytes: Uint8Array, offset: number, length: number, sum = 0): number {
  const end = offset + length;
  let total = sum;
  let i = offset;
  for (; i + 1 < end; i += 2) total += (bytes[i]! << 8) | bytes[i + 1]!;
  if (i < end) total += bytes[i]! << 8;
  return total;
}

/** The checksum of a sum below 2^32, which no packet exceeds: folded and complemented. */
export function foldChecksum(sum: number): number {
  return ~foldSum(sum) & 0xffff;
}

/** A sum below 2^32 in 16 bits, with end-around carry. */
export function foldSum(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}

/** The checksum of a range in which the checksum field itself is 0. Over a range that contains a right checksum it is 0. */
export function internetChecksum(bytes: Uint8Array, offset: number, length: number, sum = 0): number {
  return foldChecksum(sumWords(bytes, offset, length, sum));
}

/** The pseudo-header of an IPv4 packet at `offset`, for `upperLength` bytes of `protocol` (RFC 9293, 3.1). */
export function pseudoHeaderSumV4(bytes: Uint8Array, offset: number, protocol: number, upperLength: number): number {
  return sumWords(bytes, offset + 12, 8, protocol + upperLength);
}

/** The pseudo-header of an IPv6 packet at `offset` without routing header (RFC 8200, 8.1). */
export function pseudoHeaderSumV6(bytes: Uint8Array, offset: number, protocol: number, upperLength: number): number {
  return sumWords(bytes, offset + 8, 32, protocol + (upperLength >>> 16) + (upperLength & 0xffff));
}
