/** Views of a core's memory. Growing it detaches them, so they are taken anew when the buffer is another one. */
export class CoreMemory {
  readonly #memory: WebAssembly.Memory;
  #bytes: Uint8Array;

  constructor(memory: WebAssembly.Memory) {
    this.#memory = memory;
    this.#bytes = new Uint8Array(this.#memory.buffer);
  }

  /** All of the memory. Good until the next call into the core. */
  get bytes(): Uint8Array {
    if (this.#bytes.buffer !== this.#memory.buffer) this.#bytes = new Uint8Array(this.#memory.buffer);
    return this.#bytes;
  }

  /** A little-endian 32-bit number: how the core hands out pointers. */
  readUint32(pointer: number): number {
    const bytes = this.bytes;
    return (
      (bytes[pointer]! | (bytes[pointer + 1]! << 8) | (bytes[pointer + 2]! << 16) | (bytes[pointer + 3]! << 24)) >>> 0
    );
  }

  /** Text at a pointer; good for ASCII and Latin-1 only, which addresses are. */
  readLatin1(pointer: number, length: number): string {
    const bytes = this.bytes;
    return Buffer.from(bytes.buffer, bytes.byteOffset + pointer, length).toString('latin1');
  }

  readUtf8(pointer: number, length: number): string {
    const bytes = this.bytes;
    return Buffer.from(bytes.buffer, bytes.byteOffset + pointer, length).toString('utf8');
  }
}
