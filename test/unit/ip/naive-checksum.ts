/** One's complement addition done bit by bit as RFC 1071 words it: a carry out of the top is added at the bottom, at once. */
export function naiveChecksum(bytes: Uint8Array): number {
  let sum = 0n;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += (BigInt(bytes[i] ?? 0) << 8n) | BigInt(bytes[i + 1] ?? 0);
    if (sum > 0xffffn) sum -= 0xffffn;
  }
  return Number(0xffffn - sum);
}
