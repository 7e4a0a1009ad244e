/**
 * The Huffman code of RFC 7541 Appendix B. It is canonical (codes of one length ascend with their symbols, and each
 * length continues where the shorter one ended), so the lengths alone define it.
 */

/** Code length in bits by symbol; symbol 256 is EOS. */
const CODE_LENGTHS: readonly number[] = [
  // control characters
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
  28, 28, 28,
  // space to ?
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  // @ to _
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  // ` to DEL
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  // 128 to 255
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22,
  23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22,
  22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27,
  24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26,
  27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
  // EOS
  30,
];

const EOS = 256;
const LONGEST_CODE_BITS = 30;

/** Code by symbol, and per length the first code, how many there are, and where their symbols start in `SORTED`. */
const CODES = new Uint32Array(CODE_LENGTHS.length);
const FIRST_CODE = new Uint32Array(LONGEST_CODE_BITS + 1);
const CODE_COUNT = new Uint32Array(LONGEST_CODE_BITS + 1);
const FIRST_SORTED = new Uint32Array(LONGEST_CODE_BITS + 1);
const SORTED: number[] = [];

for (let bits = 1, code = 0; bits <= LONGEST_CODE_BITS; bits++, code *= 2) {
  FIRST_CODE[bits] = code;
  FIRST_SORTED[bits] = SORTED.length;
  for (let symbol = 0; symbol < CODE_LENGTHS.length; symbol++) {
    if (CODE_LENGTHS[symbol] !== bits) continue;
    CODES[symbol] = code++;
    SORTED.push(symbol);
  }
  CODE_COUNT[bits] = SORTED.length - FIRST_SORTED[bits]!;
}

/** How many bytes a string of one character per byte takes in this code. */
export function huffmanLength(text: string): number {
  let bits = 0;
  for (let i = 0; i < text.length; i++) bits += CODE_LENGTHS[text.charCodeAt(i)]!;
  return Math.ceil(bits / 8);
}

/** Writes the code of a string at `offset`, padded with ones, and answers its length in bytes. */
export function writeHuffman(target: Uint8Array, offset: number, text: string): number {
  let at = offset;
  let pending = 0;
  let pendingBits = 0;
  for (let i = 0; i < text.length; i++) {
    const symbol = text.charCodeAt(i);
    // Up to 7 pending bits and 30 more do not fit a 32-bit integer: a code goes out in bytes, highest bits first.
    let bits = CODE_LENGTHS[symbol]!;
    while (bits > 0) {
      const take = Math.min(8 - pendingBits, bits);
      bits -= take;
      pending = (pending << take) | ((CODES[symbol]! >>> bits) & ((1 << take) - 1));
      pendingBits += take;
      if (pendingBits < 8) continue;
      target[at++] = pending;
      pending = 0;
      pendingBits = 0;
    }
  }
  if (pendingBits > 0) target[at++] = (pending << (8 - pendingBits)) | (0xff >> pendingBits);
  return at - offset;
}

/**
 * The string in bytes `offset` to `end`, or undefined when EOS appears or the padding is longer than 7 bits or has
 * a zero (RFC 7541 5.2).
 */
export function readHuffman(bytes: Uint8Array, offset: number, end: number): string | undefined {
  let text = '';
  let code = 0;
  let bits = 0;
  for (let i = offset; i < end; i++) {
    const byte = bytes[i]!;
    for (let shift = 7; shift >= 0; shift--) {
      code = (code << 1) | ((byte >> shift) & 1);
      bits++;
      const index = code - FIRST_CODE[bits]!;
      if (index < CODE_COUNT[bits]!) {
        const symbol = SORTED[FIRST_SORTED[bits]! + index]!;
        if (symbol === EOS) return undefined;
        text += String.fromCharCode(symbol);
        code = 0;
        bits = 0;
      }
    }
  }
  const padded = bits <= 7 && code === (1 << bits) - 1;
  return padded ? text : undefined;
}
