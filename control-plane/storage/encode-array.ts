import { CodedError } from '../../shared/errors.ts';

export class UnstorableValueError extends CodedError {
  constructor(type: string, value: unknown) {
    super('UNSTORABLE_VALUE', `${JSON.stringify(String(value))} is no ${type} of Postgres`);
  }
}

interface ElementType {
  /** Its number in Postgres. */
  readonly oid: number;
  /** Writes the length of a value and the value. */
  readonly write: (output: ArrayOutput, value: unknown) => void;
}

/** Header of a one-dimensional array: dimensions, whether there are nulls, type; length and first index of the dimension. */
const HEADER_BYTES = 20;
const EMPTY_HEADER_BYTES = 12;
const LENGTH_BYTES = 4;
const NULL_LENGTH = -1;
const UUID_BYTES = 16;
const UUID_LENGTH = 36;
const DASH = 0x2d;
/** UTF-8 takes no more for a UTF-16 unit. */
const MAX_BYTES_PER_UNIT = 3;
/** Up to here a loop is faster than a call of Node's. */
const SHORT_TEXT = 24;
/** Postgres counts from 2000. */
const POSTGRES_EPOCH_MS = Date.UTC(2000);
/** Postgres has no year 0. */
const EARLIEST_MS = Date.parse('0001-01-01T00:00:00.000Z');
const US_PER_MS = 1_000;
const TWO_TO_32 = 2 ** 32;
/** Of range_send of Postgres: the lower bound belongs to the range; there is no upper bound. */
const LOWER_INCLUSIVE = 0x02;
const UPPER_INFINITE = 0x10;
const TIMESTAMP_BYTES = 8;
/** Ours: more is given back after use. */
const MAX_KEPT_BYTES = 4 * 2 ** 20;

/** Values of hexadecimal digits by their character code; -1 where it is none. */
const HEX = Int8Array.from({ length: 128 }, (_, code) => {
  const value = Number.parseInt(String.fromCharCode(code), 16);
  return Number.isNaN(value) ? -1 : value;
});

/** Where an array is put together: always the same memory, since what buffers take beside the heap makes V8 collect all of it. */
class ArrayOutput {
  private buffer = Buffer.allocUnsafeSlow(2 ** 16);
  private end = 0;

  clear(): void {
    if (this.buffer.length > MAX_KEPT_BYTES) this.buffer = Buffer.allocUnsafeSlow(2 ** 16);
    this.end = HEADER_BYTES;
  }

  int8(value: number): void {
    this.reserve(1);
    this.end = this.buffer.writeUInt8(value, this.end);
  }

  int16(value: number): void {
    this.reserve(2);
    this.end = this.buffer.writeInt16BE(value, this.end);
  }

  int32(value: number): void {
    this.reserve(4);
    this.end = this.buffer.writeInt32BE(value, this.end);
  }

  int64(value: number): void {
    this.int32(Math.floor(value / TWO_TO_32));
    this.int32(value | 0);
  }

  bigint64(value: bigint): void {
    this.reserve(8);
    this.end = this.buffer.writeBigInt64BE(value, this.end);
  }

  double(value: number): void {
    this.reserve(8);
    this.end = this.buffer.writeDoubleBE(value, this.end);
  }

  bytes(value: Uint8Array): void {
    this.reserve(value.length);
    this.buffer.set(value, this.end);
    this.end += value.length;
  }

  /** `prefix`: bytes in front of the text that count as its own. */
  text(text: string, prefix?: number): void {
    this.reserve(LENGTH_BYTES + 1 + MAX_BYTES_PER_UNIT * text.length);
    const lengthAt = this.end;
    this.end += LENGTH_BYTES;
    if (prefix !== undefined) this.int8(prefix);
    if (text.length > SHORT_TEXT || !this.ascii(text)) this.end += this.buffer.write(text, this.end);
    this.buffer.writeInt32BE(this.end - lengthAt - LENGTH_BYTES, lengthAt);
  }

  /** False where it is no UUID. */
  uuid(text: string): boolean {
    if (text.length !== UUID_LENGTH) return false;
    this.reserve(UUID_BYTES);
    for (let i = 0; i < UUID_LENGTH; ) {
      if (i === 8 || i === 13 || i === 18 || i === 23) {
        if (text.charCodeAt(i++) !== DASH) return false;
      } else {
        const high = HEX[text.charCodeAt(i++)] ?? -1;
        const low = HEX[text.charCodeAt(i++)] ?? -1;
        if (high < 0 || low < 0) return false;
        this.buffer[this.end++] = (high << 4) | low;
      }
    }
    return true;
  }

  /** A copy of what was written, with its header. */
  array(oid: number, length: number, hasNull: boolean): Buffer {
    const { buffer } = this;
    buffer.writeInt32BE(length === 0 ? 0 : 1, 0);
    buffer.writeInt32BE(hasNull ? 1 : 0, 4);
    buffer.writeUInt32BE(oid, 8);
    buffer.writeInt32BE(length, 12);
    buffer.writeInt32BE(1, 16);
    return Buffer.from(buffer.subarray(0, length === 0 ? EMPTY_HEADER_BYTES : this.end));
  }

  /** False where there is another character. */
  private ascii(text: string): boolean {
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code > 0x7f) return false;
      this.buffer[this.end + i] = code;
    }
    this.end += text.length;
    return true;
  }

  private reserve(bytes: number): void {
    if (this.end + bytes <= this.buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(2 * this.buffer.length, this.end + bytes));
    larger.set(this.buffer.subarray(0, this.end));
    this.buffer = larger;
  }
}

const output = new ArrayOutput();
const writeText = (out: ArrayOutput, value: unknown) => out.text(String(value));

const TYPES: Readonly<Record<string, ElementType>> = {
  text: { oid: 25, write: writeText },
  json: { oid: 114, write: writeText },
  jsonb: { oid: 3802, write: (out, value) => out.text(String(value), 1) },
  bytea: {
    oid: 17,
    write: (out, value) => {
      const bytes = value as Uint8Array;
      out.int32(bytes.length);
      out.bytes(bytes);
    },
  },
  boolean: {
    oid: 16,
    write: (out, value) => {
      out.int32(1);
      out.int8(value ? 1 : 0);
    },
  },
  smallint: {
    oid: 21,
    write: (out, value) => {
      out.int32(2);
      out.int16(whole('smallint', value));
    },
  },
  integer: {
    oid: 23,
    write: (out, value) => {
      out.int32(4);
      out.int32(whole('integer', value));
    },
  },
  bigint: {
    oid: 20,
    write: (out, value) => {
      out.int32(8);
      if (typeof value === 'bigint') out.bigint64(value);
      else out.int64(whole('bigint', value));
    },
  },
  'double precision': {
    oid: 701,
    write: (out, value) => {
      out.int32(8);
      out.double(Number(value));
    },
  },
  timestamptz: {
    oid: 1184,
    write: (out, value) => {
      out.int32(TIMESTAMP_BYTES);
      writeTime(out, value);
    },
  },
  tstzrange: {
    oid: 3910,
    write: (out, value) => {
      const { from, until } = value as { readonly from: number; readonly until: number | null };
      const boundBytes = LENGTH_BYTES + TIMESTAMP_BYTES;
      out.int32(1 + (until === null ? boundBytes : 2 * boundBytes));
      out.int8(LOWER_INCLUSIVE | (until === null ? UPPER_INFINITE : 0));
      for (const bound of until === null ? [from] : [from, until]) {
        out.int32(TIMESTAMP_BYTES);
        writeTime(out, bound);
      }
    },
  },
  uuid: {
    oid: 2950,
    write: (out, value) => {
      out.int32(UUID_BYTES);
      if (!out.uuid(String(value))) throw new UnstorableValueError('uuid', value);
    },
  },
};

/** The type in which a column's values travel: those of the rest of the types as text, which Postgres then casts. */
export function wireTypeOf(type: string): string {
  return type in TYPES ? type : 'text';
}

/**
 * The binary form of an array of `wireTypeOf` a column, with the value of each row, as a parameter: neither side has to quote and to
 * parse text, which costs more than all else about a row. Times are text, a Date, or milliseconds since 1970; ranges have two of the
 * latter, see `TimeRange`. Throws UnstorableValueError.
 */
export function encodeArray<R>(type: string, rows: readonly R[], value: (row: R) => unknown): Buffer {
  const { oid, write } = TYPES[wireTypeOf(type)]!;
  output.clear();
  let hasNull = false;
  for (const row of rows) {
    const element = value(row);
    if (element === null || element === undefined) {
      hasNull = true;
      output.int32(NULL_LENGTH);
    } else {
      write(output, element);
    }
  }
  return output.array(oid, rows.length, hasNull);
}

function writeTime(out: ArrayOutput, value: unknown): void {
  const ms = typeof value === 'number' ? Math.trunc(value) : timeOf(value);
  if (!(ms >= EARLIEST_MS)) throw new UnstorableValueError('timestamptz', value);
  const us = (ms - POSTGRES_EPOCH_MS) * US_PER_MS;
  if (Number.isSafeInteger(us)) out.int64(us);
  else out.bigint64(BigInt(ms - POSTGRES_EPOCH_MS) * BigInt(US_PER_MS));
}

const timeOf = (value: unknown) => (value instanceof Date ? value.getTime() : Date.parse(String(value)));

function whole(type: string, value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value;
  throw new UnstorableValueError(type, value);
}
