/**
 * Bytes with a second view of them as 16-bit words, so that a checksum reads two bytes at a time: a third of the time of `sumWords`, which
 * works on any bytes. The words are those of a little-endian machine; the sum does not depend on the order of bytes (RFC 1071, 2 B).
 */
export class WordBuffer {
  readonly bytes: Uint8Array;
  readonly #words: Uint16Array;

  constructor(length: number) {
    this.#words = new Uint16Array(Math.ceil(length / 2));
    this.bytes = new Uint8Array(this.#words.buffer, 0, length);
  }

  /**
   * What `sumWords` gives for the same range, folded to 16 bits. The range, of at most 65,535 bytes, must lie in the buffer: nothing is
   * checked here, and what lies beyond would be added as NaN.
   */
  sum(offset: number, length: number): number {
    if (length <= 0) return 0;
    // From an odd offset the words are shifted by one byte, which swaps the bytes of their sum.
    if ((offset & 1) !== 0) return fold((this.bytes[offset]! << 8) + this.#sumNative(offset + 1, length - 1));
    return swap(this.#sumNative(offset, length));
  }

  /** From an even offset on, folded, in the order of this machine. */
  #sumNative(offset: number, length: number): number {
    const words = this.#words;
    const end = (offset + length) >>> 1;
    let i = offset >>> 1;
    let sum = 0; // at most 32,768 words of 16 bits: stays below 2^31
    for (const last = end - 7; i < last; i += 8) {
      sum +=
        words[i]! +
        words[i + 1]! +
        words[i + 2]! +
        words[i + 3]! +
        words[i + 4]! +
        words[i + 5]! +
        words[i + 6]! +
        words[i + 7]!;
    }
    for (; i < end; i++) sum += words[i]!;
    if ((length & 1) !== 0) sum += this.bytes[offset + length - 1]!;
    return fold(sum);
  }
}

function fold(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}

function swap(word: number): number {
  return ((word & 0xff) << 8) | (word >>> 8);
}
