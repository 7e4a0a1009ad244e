import { CodedError } from '../../shared/errors.ts';

export class UnstorableValueError extends CodedError {
  constructor(type: string, value: unknown) {
    super('UNSTORABLE_VALUE', `${JSON.stringify(String(value))} is no ${type} of Postgres`);
  }
}

interface ElementType {
  /** Its number in Postgres. */
  readonly oid: number;
  /** Bytes that an element takes. */
  readonly room: (value: unknown) => number;
  /** Writes an element; returns how many bytes it took. */
  readonly write: (buffer: Buffer, value: unknown, offset: number) => number;
}

/** Header of a one-dimensional array: dimensions, whether there are nulls, type; length and first index of the dimension. */
const HEADER_BYTES = 20;
const LENGTH_BYTES = 4;
const NULL_LENGTH = -1;
const UUID_BYTES = 16;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
/** Postgres counts from 2000. */
const POSTGRES_EPOCH_MS = Date.UTC(2000);
/** Postgres has no year 0. */
const EARLIEST_MS = Date.parse('0001-01-01T00:00:00.000Z');
const US_PER_MS = 1_000;
const TWO_TO_32 = 2 ** 32;

const isNull = (value: unknown) => value === null || value === undefined;
const textRoom = (value: unknown) => Buffer.byteLength(String(value));
const writeText = (buffer: Buffer, value: unknown, offset: number) => buffer.write(String(value), offset);

const TYPES: Readonly<Record<string, ElementType>> = {
  text: { oid: 25, room: textRoom, write: writeText },
  json: { oid: 114, room: textRoom, write: writeText },
  jsonb: {
    oid: 3802,
    room: (value) => 1 + textRoom(value),
    write: (buffer, value, offset) => 1 + writeText(buffer, value, buffer.writeUInt8(1, offset)),
  },
  bytea: {
    oid: 17,
    room: (value) => (value as Uint8Array).length,
    write: (buffer, value, offset) => {
      buffer.set(value as Uint8Array, offset);
      return (value as Uint8Array).length;
    },
  },
  boolean: {
    oid: 16,
    room: () => 1,
    write: (buffer, value, offset) => buffer.writeUInt8(value ? 1 : 0, offset) - offset,
  },
  smallint: fixed(21, 2, (buffer, value, offset) => buffer.writeInt16BE(whole('smallint', value), offset)),
  integer: fixed(23, 4, (buffer, value, offset) => buffer.writeInt32BE(whole('integer', value), offset)),
  bigint: fixed(20, 8, (buffer, value, offset) => {
    if (typeof value === 'bigint') buffer.writeBigInt64BE(value, offset);
    else writeInt64(buffer, whole('bigint', value), offset);
  }),
  'double precision': fixed(701, 8, (buffer, value, offset) => buffer.writeDoubleBE(Number(value), offset)),
  timestamptz: fixed(1184, 8, (buffer, value, offset) => {
    const ms = value instanceof Date ? value.getTime() : Date.parse(String(value));
    if (!(ms >= EARLIEST_MS)) throw new UnstorableValueError('timestamptz', value);
    const us = (ms - POSTGRES_EPOCH_MS) * US_PER_MS;
    if (Number.isSafeInteger(us)) writeInt64(buffer, us, offset);
    else buffer.writeBigInt64BE(BigInt(ms - POSTGRES_EPOCH_MS) * BigInt(US_PER_MS), offset);
  }),
  uuid: fixed(2950, UUID_BYTES, (buffer, value, offset) => {
    if (!UUID.test(String(value))) throw new UnstorableValueError('uuid', value);
    buffer.write(String(value).replaceAll('-', ''), offset, 'hex');
  }),
};

/** The type in which a column's values travel: those of the rest of the types as text, which Postgres then casts. */
export function wireTypeOf(type: string): string {
  return type in TYPES ? type : 'text';
}

/**
 * The binary form of an array of `wireTypeOf` a column, as a parameter: neither side has to quote and to parse text, which
 * costs more than all else about a row. Throws UnstorableValueError.
 */
export function encodeArray(type: string, values: readonly unknown[]): Buffer {
  const { oid, room, write } = TYPES[wireTypeOf(type)]!;
  // Exactly as many as it takes: what buffers take beside the heap makes V8 collect all of it.
  let bytes = HEADER_BYTES;
  for (const value of values) bytes += LENGTH_BYTES + (isNull(value) ? 0 : room(value));
  const buffer = Buffer.allocUnsafe(bytes);
  let end = HEADER_BYTES;
  let hasNull = 0;
  for (const value of values) {
    if (isNull(value)) {
      hasNull = 1;
      end = buffer.writeInt32BE(NULL_LENGTH, end);
    } else {
      const length = write(buffer, value, end + LENGTH_BYTES);
      buffer.writeInt32BE(length, end);
      end += LENGTH_BYTES + length;
    }
  }
  buffer.writeInt32BE(values.length === 0 ? 0 : 1, 0);
  buffer.writeInt32BE(hasNull, 4);
  buffer.writeUInt32BE(oid, 8);
  if (values.length === 0) return buffer.subarray(0, 12);
  buffer.writeInt32BE(values.length, 12);
  buffer.writeInt32BE(1, 16);
  return buffer;
}

function fixed(
  oid: number,
  bytes: number,
  write: (buffer: Buffer, value: unknown, offset: number) => unknown,
): ElementType {
  return {
    oid,
    room: () => bytes,
    write: (buffer, value, offset) => {
      write(buffer, value, offset);
      return bytes;
    },
  };
}

function whole(type: string, value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value;
  throw new UnstorableValueError(type, value);
}

function writeInt64(buffer: Buffer, value: number, offset: number): void {
  buffer.writeInt32BE(Math.floor(value / TWO_TO_32), offset);
  buffer.writeUInt32BE(value >>> 0, offset + 4);
}
