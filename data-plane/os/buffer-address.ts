import { addressOf } from './libc.ts';

/**
 * Turns (bytes, offset, length) into an address for a system call. Callers use the same few buffers over and over, so the
 * address of the last one is kept: no view is made and nothing is looked up per packet.
 */
export class BufferAddress {
  #bytes: Uint8Array | undefined;
  #address = 0;

  /**
   * Throws RangeError when the range is not inside the buffer. That includes a buffer whose memory was detached, for instance because
   * a WebAssembly memory grew: its length is 0 then, so a stale address is never used.
   */
  at(bytes: Uint8Array, offset: number, length: number): number {
    if (offset < 0 || length < 0 || offset + length > bytes.length) {
      throw new RangeError(`range ${offset}+${length} is outside a buffer of ${bytes.length} bytes`);
    }
    if (bytes !== this.#bytes) {
      this.#bytes = bytes;
      this.#address = addressOf(bytes);
    }
    return this.#address + offset;
  }
}
