import { randomFillSync } from 'node:crypto';
import { CodedError } from '../../shared/errors.ts';

const SUCCESS = 0;
const BAD_DESCRIPTOR = 8;
const STDOUT = 1;
const STDERR = 2;
/** Bytes of a struct ciovec: pointer and length. */
const CIOVEC_BYTES = 8;

/**
 * What the core wants of WASI (preview 1) besides a clock: random bytes, and a place for what it writes before it aborts. It has no
 * files, no environment and no arguments.
 */
export function createWasiImports(
  memory: WebAssembly.Memory,
  onMessage: (text: string) => void,
): Record<string, WebAssembly.ImportValue> {
  const none = () => SUCCESS;
  return {
    random_get: (pointer: number, length: number) => {
      randomFillSync(new Uint8Array(memory.buffer, pointer, length));
      return SUCCESS;
    },
    environ_sizes_get: (countPointer: number, bytesPointer: number) => {
      const view = new DataView(memory.buffer);
      view.setUint32(countPointer, 0, true);
      view.setUint32(bytesPointer, 0, true);
      return SUCCESS;
    },
    fd_write: (fd: number, vectors: number, count: number, writtenPointer: number) => {
      const view = new DataView(memory.buffer);
      const pieces: Buffer[] = [];
      for (let at = vectors; at < vectors + count * CIOVEC_BYTES; at += CIOVEC_BYTES) {
        pieces.push(Buffer.from(memory.buffer, view.getUint32(at, true), view.getUint32(at + 4, true)));
      }
      const text = Buffer.concat(pieces);
      if (fd === STDOUT || fd === STDERR) onMessage(text.toString('utf8'));
      view.setUint32(writtenPointer, text.length, true);
      return SUCCESS;
    },
    proc_exit: (code: number) => {
      throw new CodedError('QUIC_CORE_EXIT', `the QUIC core wants to exit with ${code}`);
    },
    environ_get: none,
    sched_yield: none,
    fd_close: none,
    fd_prestat_get: () => BAD_DESCRIPTOR,
    fd_prestat_dir_name: () => BAD_DESCRIPTOR,
    fd_read: () => BAD_DESCRIPTOR,
    fd_seek: () => BAD_DESCRIPTOR,
  };
}
