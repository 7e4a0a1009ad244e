import type wasm from '@currentspace/http3/wasm';
import { CoreMemory } from './core-memory.ts';

export type QuicCoreExports = ReturnType<typeof wasm.loadHttp3WasmCore>['exports'];

/** Room for the text of an error. */
const ERROR_BYTES = 1_024;
/** A pointer of the core. */
const POINTER_BYTES = 4;

/** An instance of the QUIC core: what it exports, and the ways in and out of its memory. */
export class QuicCore {
  readonly exports: QuicCoreExports;
  readonly memory: CoreMemory;

  constructor(exports: QuicCoreExports) {
    this.exports = exports;
    this.memory = new CoreMemory(exports.memory);
  }

  /** A pointer to `size` bytes, which are given back by `free` with the same size. */
  alloc(size: number): number {
    return this.exports.wasm_alloc(size);
  }

  free(pointer: number, size: number): void {
    this.exports.wasm_free(pointer, size);
  }

  /** Room for a pointer that the core writes. */
  allocOutPtrCell(): number {
    return this.alloc(POINTER_BYTES);
  }

  /** Copies bytes into memory of their own, to be freed by the caller. */
  writeBytes(bytes: Uint8Array): { ptr: number; len: number } {
    const ptr = this.alloc(bytes.length);
    this.memory.bytes.set(bytes, ptr);
    return { ptr, len: bytes.length };
  }

  writeUtf8(text: string): { ptr: number; len: number } {
    return this.writeBytes(Buffer.from(text, 'utf8'));
  }

  /** What one of the core's `*_last_error` says of a handle; 0 for one that could not be made. */
  readLastError(lastError: (handle: number, pointer: number, capacity: number) => number, handle: number): string {
    const pointer = this.alloc(ERROR_BYTES);
    const length = lastError(handle, pointer, ERROR_BYTES);
    const text = length > 0 ? this.memory.readUtf8(pointer, length) : 'no reason given';
    this.free(pointer, ERROR_BYTES);
    return text;
  }
}
