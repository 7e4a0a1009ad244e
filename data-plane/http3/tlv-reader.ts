import { MAX_VARINT_BYTES, readVarint, VARINT_TRUNCATED, varintLength } from './varint.ts';

/**
 * How the payload of a record is taken: `whole` collects it and delivers it once, `pieces` passes it on as it comes,
 * `skip` reads over it without keeping anything. `rest` is no record: all that follows is passed on as it comes, and the length is
 * a number that means something else.
 */
export type TlvTreatment = 'whole' | 'pieces' | 'skip' | 'rest';

export interface TlvHandler {
  /** Type and length are known. Both are Infinity above 2^53 - 1. Answers how to take the payload; may throw. */
  onHeader(type: number, length: number): TlvTreatment;
  /** The whole payload. The bytes are only valid during the call. */
  onWhole(type: number, payload: Uint8Array): void;
  /** One piece of a payload, never empty. The bytes are only valid during the call. */
  onPiece(type: number, bytes: Uint8Array): void;
}

/** A collected payload starts with this much room and doubles as bytes arrive, so a length alone costs nothing. */
const INITIAL_ROOM_BYTES = 256;

/**
 * Reads records of {type varint, length varint, payload}, which is the shape of both HTTP/3 frames (RFC 9114 7.1) and
 * capsules (RFC 9297 3.2), across any chunking. It limits nothing itself: the handler refuses a length by throwing.
 */
export class TlvReader {
  readonly #handler: TlvHandler;
  readonly #header = new Uint8Array(2 * MAX_VARINT_BYTES);
  #headerLength = 0;
  #inPayload = false;
  #type = 0;
  #length = 0;
  #remaining = 0;
  #treatment: TlvTreatment = 'skip';
  #collected: Uint8Array | undefined;
  #stopped = false;

  constructor(handler: TlvHandler) {
    this.#handler = handler;
  }

  /** Whether the bytes so far end exactly where a record ends, or no longer matter. */
  get atBoundary(): boolean {
    return this.#stopped || this.#treatment === 'rest' || (!this.#inPayload && this.#headerLength === 0);
  }

  /** Ignores everything from here on, also the rest of the bytes that are being pushed. */
  stop(): void {
    this.#stopped = true;
    this.#collected = undefined;
  }

  push(bytes: Uint8Array): void {
    let offset = 0;
    while (offset < bytes.length && !this.#stopped) {
      offset = this.#inPayload ? this.#takePayload(bytes, offset) : this.#takeHeaderByte(bytes, offset);
    }
  }

  #takeHeaderByte(bytes: Uint8Array, offset: number): number {
    this.#header[this.#headerLength++] = bytes[offset]!;
    const have = this.#headerLength;
    const type = readVarint(this.#header, 0, have);
    if (type === VARINT_TRUNCATED) return offset + 1;
    const length = readVarint(this.#header, varintLength(this.#header[0]!), have);
    if (length === VARINT_TRUNCATED) return offset + 1;

    this.#headerLength = 0;
    this.#type = type;
    this.#length = length;
    this.#remaining = length;
    this.#treatment = this.#handler.onHeader(type, length);
    if (this.#treatment === 'rest') this.#remaining = Number.POSITIVE_INFINITY;
    this.#inPayload = this.#remaining > 0;
    if (length === 0 && this.#treatment === 'whole' && !this.#stopped) {
      this.#handler.onWhole(type, this.#header.subarray(0, 0));
    }
    return offset + 1;
  }

  #takePayload(bytes: Uint8Array, offset: number): number {
    const take = Math.min(bytes.length - offset, this.#remaining);
    const piece = bytes.subarray(offset, offset + take);
    this.#remaining -= take;
    if (this.#remaining === 0) this.#inPayload = false;
    if (this.#treatment === 'pieces' || this.#treatment === 'rest') this.#handler.onPiece(this.#type, piece);
    else if (this.#treatment === 'whole') this.#collect(piece);
    return offset + take;
  }

  #collect(piece: Uint8Array): void {
    const had = this.#length - this.#remaining - piece.length;
    if (had === 0 && this.#remaining === 0) {
      this.#handler.onWhole(this.#type, piece);
      return;
    }
    let room = this.#collected ?? new Uint8Array(Math.min(this.#length, INITIAL_ROOM_BYTES));
    if (had + piece.length > room.length) {
      const larger = new Uint8Array(Math.min(this.#length, Math.max(2 * room.length, had + piece.length)));
      larger.set(room.subarray(0, had));
      room = larger;
    }
    room.set(piece, had);
    this.#collected = room;
    if (this.#remaining > 0) return;
    this.#collected = undefined;
    this.#handler.onWhole(this.#type, room.subarray(0, this.#length));
  }
}
