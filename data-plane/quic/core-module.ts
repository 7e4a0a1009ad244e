import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import wasm from '@currentspace/http3/wasm';
import { CodedError } from '../../shared/errors.ts';

export type QuicCoreExports = ReturnType<typeof wasm.loadHttp3WasmCore>['exports'];
export type QuicCore = ReturnType<typeof wasm.loadHttp3WasmCore>;

/** Bytes of a page of WebAssembly memory. */
const PAGE_BYTES = 65_536;
/**
 * The core as shipped may grow to 64 MiB and aborts when that is spent, with every connection in it (measured: 34 MiB for an
 * empty server). Pointers are read as signed numbers, so it has to stay below 2 GiB.
 */
const MAX_MEMORY_BYTES = 1024 ** 3;
const MEMORY_SECTION = 5;
/** Bytes before the first section: magic and version. */
const PREAMBLE_BYTES = 8;
/** Clear the text (memory.fill), ERR_peek_error, drop, unreachable; end, and the other answers. */
const TLS_ERROR_LOG = Buffer.from('418008fc0b0010c9091a000b42002103', 'hex');
/** Where ERR_peek_error is called in it, and what comes instead: br 2, and nop up to the end. */
const TLS_ERROR_TRAP_OFFSET = 6;
const TLS_ERROR_ANSWER = Buffer.from('0c02010101', 'hex');

let compiled: WebAssembly.Module | undefined;

/** A new instance of the QUIC core (quiche, compiled to WebAssembly), with a memory of its own. */
export function loadQuicCore(onMessage: (text: string) => void): QuicCore {
  if (compiled === undefined) {
    const entry = createRequire(import.meta.url).resolve('@currentspace/http3/wasm');
    const shipped = readFileSync(join(dirname(entry), 'http3_client.wasm'));
    const mended = survivesTlsErrors(shipped);
    compiled = new WebAssembly.Module(raiseMemoryMaximum(mended, MAX_MEMORY_BYTES / PAGE_BYTES));
  }
  return wasm.loadHttp3WasmCore({ module: compiled }, { onStderr: onMessage });
}

/**
 * As shipped, every TLS error aborts the core and takes all of its connections along: one datagram of a stranger, e.g. with an
 * unknown ALPN, is enough. Where the error was to be logged, the call of BoringSSL's ERR_error_string_n is a trap, which a
 * linker puts in place of a function that caller and callee declare differently. Here a branch to what follows the log, the
 * answer "the handshake failed", takes the place of that call. Throws where the module is another one.
 */
export function survivesTlsErrors(module: Uint8Array): Uint8Array<ArrayBuffer> {
  const mended = Buffer.from(module);
  const at = mended.indexOf(TLS_ERROR_LOG);
  if (at < 0 || mended.indexOf(TLS_ERROR_LOG, at + 1) >= 0) {
    throw new CodedError('QUIC_CORE_UNKNOWN', 'the QUIC core is another version: it may abort at the first TLS error');
  }
  mended.set(TLS_ERROR_ANSWER, at + TLS_ERROR_TRAP_OFFSET);
  return new Uint8Array(mended);
}

/** Rewrites the maximum of the module's one memory, given in pages. Throws where the module has no bounded memory. */
export function raiseMemoryMaximum(module: Uint8Array, pages: number): Uint8Array<ArrayBuffer> {
  let at = PREAMBLE_BYTES;
  while (at < module.length) {
    const id = module[at];
    const [length, lengthBytes] = readLeb(module, at + 1);
    const body = at + 1 + lengthBytes;
    if (id === MEMORY_SECTION) {
      const [count, countBytes] = readLeb(module, body);
      const flags = module[body + countBytes];
      if (count !== 1 || flags !== 1) break;
      const [minimum] = readLeb(module, body + countBytes + 1);
      const section = [...encodeLeb(1), 1, ...encodeLeb(minimum), ...encodeLeb(Math.max(minimum, pages))];
      const replaced = [MEMORY_SECTION, ...encodeLeb(section.length), ...section];
      const result = new Uint8Array(at + replaced.length + module.length - body - length);
      result.set(module.subarray(0, at));
      result.set(replaced, at);
      result.set(module.subarray(body + length), at + replaced.length);
      return result;
    }
    at = body + length;
  }
  throw new CodedError(
    'QUIC_CORE_UNKNOWN',
    'the QUIC core has no bounded memory section; another version is installed',
  );
}

/** Unsigned LEB128 (WebAssembly 5.2.2): value and bytes read. */
function readLeb(bytes: Uint8Array, at: number): [number, number] {
  let value = 0;
  for (let i = 0; i < 5; i++) {
    const byte = bytes[at + i] ?? 0;
    value += (byte & 0x7f) * 2 ** (7 * i);
    if ((byte & 0x80) === 0) return [value, i + 1];
  }
  throw new CodedError('QUIC_CORE_UNKNOWN', `no LEB128 number at byte ${at} of the QUIC core`);
}

function encodeLeb(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return bytes;
}
