import { CodedError } from '../../shared/errors.ts';

const IMPORT_SECTION = 2;
const MEMORY_SECTION = 5;
/** Bytes before the first section: magic and version. */
const PREAMBLE_BYTES = 8;
/** What an import of a memory with a minimum and a maximum begins with, behind its two names. */
const MEMORY_IMPORT = 0x02;
const BOUNDED = 0x01;

interface Section {
  readonly id: number;
  readonly start: number;
  readonly body: number;
  readonly end: number;
}

/** Where a memory comes from, and how far it may grow. */
export interface MemoryImport {
  readonly module: string;
  readonly name: string;
  /** Of 64 KiB. */
  readonly maxPages: number;
}

/**
 * Makes a module import the one memory that it defines, with another maximum (WebAssembly 5.5.5, 5.5.8), and answers the memory's
 * first size in pages too. Throws QUIC_CORE_UNKNOWN where the module has no bounded memory, or no imports.
 */
export function importMemory(
  module: Uint8Array,
  { module: from, name, maxPages }: MemoryImport,
): { module: Uint8Array<ArrayBuffer>; minPages: number } {
  const sections = readSections(module);
  const imports = sections.find(({ id }) => id === IMPORT_SECTION);
  const memory = sections.find(({ id }) => id === MEMORY_SECTION);
  if (imports === undefined || memory === undefined) throw unknown('it has no imports or no memory');
  const [count, countBytes] = readLeb(module, memory.body);
  const limits = memory.body + countBytes;
  if (count !== 1 || module[limits] !== BOUNDED) throw unknown('its memory has no maximum');
  const [minPages] = readLeb(module, limits + 1);
  const added = [
    ...encodeName(from),
    ...encodeName(name),
    MEMORY_IMPORT,
    BOUNDED,
    ...encodeLeb(minPages),
    ...encodeLeb(maxPages),
  ];
  const [importCount, importCountBytes] = readLeb(module, imports.body);
  const others = module.subarray(imports.body + importCountBytes, imports.end);
  const body = [...encodeLeb(importCount + 1), ...others, ...added];
  const parts = [
    module.subarray(0, imports.start),
    Uint8Array.from([IMPORT_SECTION, ...encodeLeb(body.length), ...body]),
    module.subarray(imports.end, memory.start),
    module.subarray(memory.end),
  ];
  return { module: new Uint8Array(Buffer.concat(parts)), minPages };
}

function readSections(module: Uint8Array): Section[] {
  const sections: Section[] = [];
  for (let start = PREAMBLE_BYTES; start < module.length; ) {
    const [length, lengthBytes] = readLeb(module, start + 1);
    const body = start + 1 + lengthBytes;
    sections.push({ id: module[start]!, start, body, end: body + length });
    start = body + length;
  }
  return sections;
}

/** Unsigned LEB128 (WebAssembly 5.2.2): value and bytes read. */
function readLeb(bytes: Uint8Array, at: number): [number, number] {
  let value = 0;
  for (let i = 0; i < 5; i++) {
    const byte = bytes[at + i] ?? 0;
    value += (byte & 0x7f) * 2 ** (7 * i);
    if ((byte & 0x80) === 0) return [value, i + 1];
  }
  throw unknown(`no LEB128 number at byte ${at}`);
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

function encodeName(name: string): number[] {
  const text = Buffer.from(name, 'utf8');
  return [...encodeLeb(text.length), ...text];
}

function unknown(why: string): CodedError {
  return new CodedError('QUIC_CORE_UNKNOWN', `the QUIC core is another version: ${why}`);
}
