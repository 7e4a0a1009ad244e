/** Copies without making a view of the source, which `target.set(source.subarray(...))` does for each packet. */
export function copyBytes(
  source: Uint8Array,
  sourceOffset: number,
  target: Uint8Array,
  targetOffset: number,
  length: number,
): void {
  Buffer.prototype.copy.call(source as Buffer, target, targetOffset, sourceOffset, sourceOffset + length);
}
