import fc from 'fast-check';
import { CodedError } from '../../shared/errors.ts';

/** Inputs for each property; many more by FUZZ_RUNS, for a long search. */
const DEFAULT_RUNS = 500;
export const FUZZ_RUNS = Number(process.env.FUZZ_RUNS ?? DEFAULT_RUNS);

/** Checks a property as often as FUZZ_RUNS says. */
export function fuzz<Ts extends [unknown, ...unknown[]]>(
  ...args: [...arbitraries: { [K in keyof Ts]: fc.Arbitrary<Ts[K]> }, predicate: (...values: Ts) => void]
): void {
  fc.assert(fc.property<Ts>(...args), { numRuns: FUZZ_RUNS });
}

/** What a parser made of its input: a value, or the code of its typed error. Anything else that is thrown is a defect. */
export type Outcome<T> = { readonly value: T } | { readonly code: string };

export function outcomeOf<T>(parse: () => T): Outcome<T> {
  try {
    return { value: parse() };
  } catch (error) {
    if (error instanceof CodedError) return { code: error.code };
    throw error;
  }
}

/** Bytes at which encodings change their meaning. */
const EDGES = [0x00, 0x01, 0x04, 0x06, 0x20, 0x3f, 0x40, 0x45, 0x60, 0x7f, 0x80, 0xbf, 0xc0, 0xff];
const anyByte = fc.oneof(fc.constantFrom(...EDGES), fc.integer({ min: 0, max: 255 }));

type Mutation = (bytes: number[]) => void;

const mutation: fc.Arbitrary<Mutation> = fc.tuple(fc.nat(6), fc.nat(), fc.nat(40), anyByte).map(
  ([kind, where, length, byte]): Mutation =>
    (bytes) => {
      const at = where % (bytes.length + 1);
      switch (kind) {
        case 0: // cut off
          bytes.length = at;
          return;
        case 1: // a piece taken out
          bytes.splice(at, length);
          return;
        case 2: // a piece twice
          bytes.splice(at, 0, ...bytes.slice(at, at + length));
          return;
        case 3: // a byte too many
          bytes.splice(at, 0, byte);
          return;
        case 4: // one bit
          if (at < bytes.length) bytes[at]! ^= 1 << (length % 8);
          return;
        default: // one byte
          if (at < bytes.length) bytes[at] = byte;
      }
    },
);

/** Bytes that are nearly what `valid` makes: up to four changes away. */
export function mutated(valid: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array> {
  return fc.tuple(valid, fc.array(mutation, { minLength: 1, maxLength: 4 })).map(([bytes, mutations]) => {
    const changed = [...bytes];
    for (const mutate of mutations) mutate(changed);
    return Uint8Array.from(changed);
  });
}

/** What a peer may send: right, nearly right, or anything. */
export function hostile(valid: fc.Arbitrary<Uint8Array>, maxLength = 100): fc.Arbitrary<Uint8Array> {
  return fc.oneof({ weight: 4, arbitrary: mutated(valid) }, valid, fc.array(anyByte, { maxLength }).map(toBytes));
}

function toBytes(values: readonly number[]): Uint8Array {
  return Uint8Array.from(values);
}

/** A larger buffer around some bytes, filled with anything: what is parsed must not depend on it. */
export interface Surroundings {
  readonly before: Uint8Array;
  readonly after: Uint8Array;
}

export const surroundings: fc.Arbitrary<Surroundings> = fc.record({
  before: fc.uint8Array({ maxLength: 9 }),
  after: fc.uint8Array({ minLength: 1, maxLength: 64 }),
});

export function within({ before, after }: Surroundings, bytes: Uint8Array): { buffer: Uint8Array; offset: number } {
  return { buffer: new Uint8Array(Buffer.concat([before, bytes, after])), offset: before.length };
}

/** The same as a view into that buffer. */
export function viewWithin(around: Surroundings, bytes: Uint8Array): Uint8Array {
  const { buffer, offset } = within(around, bytes);
  return buffer.subarray(offset, offset + bytes.length);
}

/** Lengths of pieces, taken in turn and over again until all is cut. */
export const cuts: fc.Arbitrary<number[]> = fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 8 });

/** Hands over each piece in a buffer that is overwritten afterwards, so that it shows if somebody kept it. */
export function inPieces(bytes: Uint8Array, lengths: readonly number[], take: (piece: Uint8Array) => void): void {
  for (let offset = 0, i = 0; offset < bytes.length; i++) {
    const length = lengths[i % lengths.length]!;
    const piece = bytes.slice(offset, offset + length);
    take(piece);
    piece.fill(0xee);
    offset += length;
  }
}
