import { ControlStream, type ControlStreamOwner } from './control-stream.ts';
import {
  H3_CLOSED_CRITICAL_STREAM,
  H3_ID_ERROR,
  H3_STREAM_CREATION_ERROR,
  Http3ConnectionError,
} from './error-codes.ts';
import type { Http3Role } from './http3-endpoint.ts';
import { DecoderStreamReader } from './qpack/decoder-stream.ts';
import { checkEncoderInstructions } from './qpack/encoder-stream.ts';
import { MAX_VARINT_BYTES, readVarint, VARINT_TRUNCATED, varintLength } from './varint.ts';

/** Stream types, RFC 9114 6.2 and RFC 9204 4.2. */
export const STREAM_CONTROL = 0x00;
export const STREAM_PUSH = 0x01;
export const STREAM_QPACK_ENCODER = 0x02;
export const STREAM_QPACK_DECODER = 0x03;

type CriticalType = typeof STREAM_CONTROL | typeof STREAM_QPACK_ENCODER | typeof STREAM_QPACK_DECODER;

/** A stream whose type is not complete yet, or is complete. Streams of unknown type are read over. */
type PeerStream =
  | { readonly state: 'typing'; readonly header: Uint8Array; length: number }
  | { readonly state: 'critical'; readonly type: CriticalType; read(bytes: Uint8Array): void }
  | { readonly state: 'ignored' };

/** The unidirectional streams of the peer: one control stream, at most one of each QPACK kind, any number of unknown ones. */
export class PeerUniStreams {
  readonly #role: Http3Role;
  readonly #streams = new Map<number, PeerStream>();
  readonly #seen = new Set<CriticalType>();
  readonly #control: ControlStream;
  readonly #qpackDecoder = new DecoderStreamReader();

  constructor(role: Http3Role, owner: ControlStreamOwner) {
    this.#role = role;
    this.#control = new ControlStream(role, owner);
  }

  receive(streamId: number, bytes: Uint8Array, fin: boolean): void {
    let stream = this.#streams.get(streamId);
    if (stream === undefined) {
      stream = { state: 'typing', header: new Uint8Array(MAX_VARINT_BYTES), length: 0 };
      this.#streams.set(streamId, stream);
    }
    let rest = bytes;
    if (stream.state === 'typing') {
      const type = takeType(stream, bytes);
      if (type !== undefined) {
        rest = type.rest;
        stream = this.#open(type.value);
        this.#streams.set(streamId, stream);
      }
    }
    if (stream.state === 'critical') stream.read(rest);
    if (fin) this.close(streamId);
  }

  /** The stream ended or was reset: an error for the critical ones (RFC 9114 6.2.1, RFC 9204 4.2), fine for any other. */
  close(streamId: number): void {
    const stream = this.#streams.get(streamId);
    this.#streams.delete(streamId);
    if (stream?.state !== 'critical') return;
    throw new Http3ConnectionError(H3_CLOSED_CRITICAL_STREAM, `the peer closed its stream of type ${stream.type}`);
  }

  stop(): void {
    this.#control.stop();
    this.#streams.clear();
  }

  #open(type: number): PeerStream {
    switch (type) {
      case STREAM_CONTROL:
        return this.#openCritical(type, (bytes) => this.#control.push(bytes));
      case STREAM_QPACK_ENCODER:
        return this.#openCritical(type, checkEncoderInstructions);
      case STREAM_QPACK_DECODER:
        return this.#openCritical(type, (bytes) => this.#qpackDecoder.push(bytes));
      case STREAM_PUSH:
        if (this.#role === 'server') {
          throw new Http3ConnectionError(H3_STREAM_CREATION_ERROR, 'a client opened a push stream');
        }
        throw new Http3ConnectionError(H3_ID_ERROR, 'a push came, though none was allowed');
      default:
        return { state: 'ignored' };
    }
  }

  #openCritical(type: CriticalType, read: (bytes: Uint8Array) => void): PeerStream {
    if (this.#seen.has(type)) {
      throw new Http3ConnectionError(H3_STREAM_CREATION_ERROR, `a second stream of type ${type}`);
    }
    this.#seen.add(type);
    return { state: 'critical', type, read };
  }
}

function takeType(
  stream: { readonly header: Uint8Array; length: number },
  bytes: Uint8Array,
): { value: number; rest: Uint8Array } | undefined {
  for (let i = 0; i < bytes.length; i++) {
    stream.header[stream.length++] = bytes[i]!;
    if (stream.length < varintLength(stream.header[0]!)) continue;
    const value = readVarint(stream.header, 0, stream.length);
    if (value !== VARINT_TRUNCATED) return { value, rest: bytes.subarray(i + 1) };
  }
  return undefined;
}
