import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { CodedError } from '../../shared/errors.ts';
import { createCoreClock } from './core-clock.ts';
import { QuicCore, type QuicCoreExports } from './quic-core.ts';
import { createWasiImports } from './wasi-imports.ts';
import { importMemory } from './wasm-binary.ts';

/** Bytes of a page of WebAssembly memory. */
const PAGE_BYTES = 65_536;
/**
 * The core as shipped may grow to 64 MiB and aborts when that is spent, with every connection in it (measured: 34 MiB for an
 * empty server). Pointers are read as signed numbers, so it has to stay below 2 GiB.
 */
const MAX_MEMORY_PAGES = 1024 ** 3 / PAGE_BYTES;
/** Clear the text (memory.fill), ERR_peek_error, drop, unreachable; end, and the other answers. */
const TLS_ERROR_LOG = Buffer.from('418008fc0b0010c9091a000b42002103', 'hex');
/** Where ERR_peek_error is called in it, and what comes instead: br 2, and nop up to the end. */
const TLS_ERROR_TRAP_OFFSET = 6;
const TLS_ERROR_ANSWER = Buffer.from('0c02010101', 'hex');
/** In quiche's own transport parameters: active_connection_id_limit = 2, then max_ack_delay and ack_delay_exponent. */
const CONNECTION_ID_LIMIT = Buffer.from('42023703900120004219370388012000420337038001', 'hex');
/** Where the 2 is in it, and what comes instead: the most that one byte can say. */
const CONNECTION_ID_LIMIT_OFFSET = 1;
const CONNECTION_IDS = 63;

/** The core, ready to be started. */
export interface CompiledCore {
  readonly module: WebAssembly.Module;
  readonly minPages: number;
}

let compiled: CompiledCore | undefined;

/** A new instance of the QUIC core (quiche, compiled to WebAssembly), with a memory and a clock of its own. */
export function loadQuicCore(onMessage: (text: string) => void): QuicCore {
  compiled ??= compileCore();
  return startCore(compiled, onMessage);
}

/** The same of a core that was compiled with changes. */
export function startCore({ module, minPages }: CompiledCore, onMessage: (text: string) => void): QuicCore {
  const memory = new WebAssembly.Memory({ initial: minPages, maximum: MAX_MEMORY_PAGES });
  const wasi = { ...createWasiImports(memory, onMessage), clock_time_get: createCoreClock(memory) };
  const instance = new WebAssembly.Instance(module, { wasi_snapshot_preview1: wasi, core: { memory } });
  return new QuicCore(instance.exports as unknown as QuicCoreExports);
}

/** Compiles what is shipped, mended, and with what `change` makes of that: for tests of peers that are not as ours. */
export function compileCore(change = (module: Uint8Array): Uint8Array => module): CompiledCore {
  const entry = createRequire(import.meta.url).resolve('@currentspace/http3/wasm');
  const shipped = readFileSync(join(dirname(entry), 'http3_client.wasm'));
  // The memory is made by us, so that the clock can share it.
  const { module, minPages } = importMemory(change(keepsMorePaths(survivesTlsErrors(shipped))), {
    module: 'core',
    name: 'memory',
    maxPages: MAX_MEMORY_PAGES,
  });
  return { module: new WebAssembly.Module(module), minPages };
}

/**
 * As shipped, every TLS error aborts the core and takes all of its connections along: one datagram of a stranger, e.g. with an
 * unknown ALPN, is enough. Where the error was to be logged, the call of BoringSSL's ERR_error_string_n is a trap, which a
 * linker puts in place of a function that caller and callee declare differently. Here a branch to what follows the log, the
 * answer "the handshake failed", takes the place of that call. Throws where the module is another one.
 */
export function survivesTlsErrors(module: Uint8Array): Uint8Array<ArrayBuffer> {
  return replaced(
    module,
    TLS_ERROR_LOG,
    TLS_ERROR_TRAP_OFFSET,
    TLS_ERROR_ANSWER,
    'it may abort at the first TLS error',
  );
}

/**
 * As shipped, a connection outlives one change of its client's address and drops everything after the second: the core keeps as many
 * paths as active_connection_id_limit (RFC 9000 18.2) says, forgets none, and has no option for it. Here it keeps 63, which is
 * 62 changes; a path takes memory only once it is there. Throws where the module is another one.
 */
export function keepsMorePaths(module: Uint8Array): Uint8Array<ArrayBuffer> {
  const limit = Buffer.of(CONNECTION_IDS);
  return replaced(
    module,
    CONNECTION_ID_LIMIT,
    CONNECTION_ID_LIMIT_OFFSET,
    limit,
    'it may lose clients that move twice',
  );
}

/** With `bytes` at `offset` of the one place that is as `pattern`. */
function replaced(module: Uint8Array, pattern: Uint8Array, offset: number, bytes: Uint8Array, risk: string) {
  const mended = Buffer.from(module);
  const at = mended.indexOf(pattern);
  if (at < 0 || mended.indexOf(pattern, at + 1) >= 0) {
    throw new CodedError('QUIC_CORE_UNKNOWN', `the QUIC core is another version: ${risk}`);
  }
  mended.set(bytes, at + offset);
  return new Uint8Array(mended);
}
