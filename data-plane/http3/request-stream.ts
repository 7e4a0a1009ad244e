import {
  H3_EXCESSIVE_LOAD,
  H3_FRAME_ERROR,
  H3_FRAME_UNEXPECTED,
  H3_ID_ERROR,
  H3_MESSAGE_ERROR,
  H3_REQUEST_INCOMPLETE,
  Http3ConnectionError,
  Http3StreamError,
} from './error-codes.ts';
import { checkTrailers, contentLength } from './field-section.ts';
import {
  FRAME_CANCEL_PUSH,
  FRAME_DATA,
  FRAME_GOAWAY,
  FRAME_HEADERS,
  FRAME_MAX_PUSH_ID,
  FRAME_PUSH_PROMISE,
  FRAME_SESSION_STREAM,
  FRAME_SETTINGS,
  isForbiddenFrameType,
} from './frame.ts';
import type { Http3Role } from './http3-endpoint.ts';
import { decodeFieldSection } from './qpack/decoder.ts';
import type { FieldLine } from './qpack/field-line.ts';
import { type TlvHandler, TlvReader, type TlvTreatment } from './tlv-reader.ts';

/** The largest field section we take, encoded and decoded, in bytes; ours. Announced as SETTINGS_MAX_FIELD_SECTION_SIZE. */
export const MAX_FIELD_SECTION_BYTES = 16_384;

/** Interim responses (1xx) a server may send before the final one; ours. */
const MAX_INTERIM_RESPONSES = 16;

export interface RequestStreamOwner {
  /** A decoded head: of a request at a server, of a final or interim response at a client. */
  onHead(stream: RequestStream, lines: readonly FieldLine[]): void;
  /** The head is larger than MAX_FIELD_SECTION_BYTES. */
  onHeadTooLarge(stream: RequestStream): void;
  onContent(stream: RequestStream, bytes: Uint8Array): void;
  /** It is no request, but a stream of the WebTransport session with this id. Without this it is a frame of an unknown type. */
  onSessionStream?(stream: RequestStream, sessionId: number): void;
}

/** What may come next from the peer. `session`: anything, for it is no request. */
type Phase = 'head' | 'content' | 'end' | 'session';

/** One request stream, or a stream of a session: what the peer sends on it, and which of its sides are still open. */
export class RequestStream implements TlvHandler {
  readonly id: number;
  /** The stream carries HTTP datagrams: its request has a `:protocol`. Undefined while the request is not known. */
  takesDatagrams: boolean | undefined;
  /** The request is a CONNECT (client). */
  isConnect = false;
  /** A final response was sent (server). */
  responded = false;
  /** Our side has ended. */
  sendEnded = false;
  /** The peer's side has ended. */
  receiveEnded = false;
  /** Bytes read over since `discard`; undefined before. */
  discarded: number | undefined;

  readonly #role: Http3Role;
  readonly #owner: RequestStreamOwner;
  readonly #reader = new TlvReader(this);
  #phase: Phase = 'head';
  #begun = false;
  /** Only DATA may follow (RFC 9114 4.4). */
  #dataOnly = false;
  #announced: number | undefined;
  #received = 0;
  #interimResponses = 0;

  constructor(role: Http3Role, id: number, owner: RequestStreamOwner) {
    this.#role = role;
    this.id = id;
    this.#owner = owner;
  }

  push(bytes: Uint8Array): void {
    if (this.discarded === undefined) this.#reader.push(bytes);
    else this.discarded += bytes.length;
  }

  /** The peer's FIN. Throws when the message is not complete. */
  end(): void {
    this.receiveEnded = true;
    if (this.discarded !== undefined) return;
    if (!this.#reader.atBoundary) {
      throw new Http3ConnectionError(H3_FRAME_ERROR, `stream ${this.id} ends inside a frame`);
    }
    if (this.#phase === 'head') {
      const code = this.#role === 'server' ? H3_REQUEST_INCOMPLETE : H3_MESSAGE_ERROR;
      throw new Http3StreamError(code, 'the stream ends before the message');
    }
    if (this.#announced !== undefined && this.#received !== this.#announced) {
      throw new Http3StreamError(
        H3_MESSAGE_ERROR,
        `content-length is ${this.#announced}, the content ${this.#received}`,
      );
    }
  }

  /** Nothing more of the peer is of interest. */
  discard(): void {
    this.discarded ??= 0;
    this.#reader.stop();
  }

  /** The head is the final one. `dataOnly` is so for CONNECT, where nothing but DATA may follow. */
  acceptHead(fields: readonly FieldLine[], dataOnly: boolean): void {
    this.#phase = 'content';
    this.#dataOnly = dataOnly;
    if (!dataOnly) this.#announced = contentLength(fields);
  }

  countInterimResponse(): void {
    if (++this.#interimResponses > MAX_INTERIM_RESPONSES) {
      throw new Http3StreamError(H3_EXCESSIVE_LOAD, `more than ${MAX_INTERIM_RESPONSES} interim responses`);
    }
  }

  onHeader(type: number, length: number): TlvTreatment {
    const isFirst = !this.#begun;
    this.#begun = true;
    if (isFirst && type === FRAME_SESSION_STREAM && this.#owner.onSessionStream !== undefined) {
      this.#phase = 'session';
      this.takesDatagrams = false;
      this.responded = true;
      this.#owner.onSessionStream(this, length);
      return 'rest';
    }
    if (isForbiddenFrameType(type)) throw this.#unexpected(type);
    switch (type) {
      case FRAME_DATA:
        if (this.#phase !== 'content') throw this.#unexpected(type);
        return 'pieces';
      case FRAME_HEADERS:
        return this.#onHeadersFrame(length);
      case FRAME_PUSH_PROMISE:
        if (this.#role === 'server') throw this.#unexpected(type);
        throw new Http3ConnectionError(H3_ID_ERROR, 'a push was promised, though none was allowed');
      case FRAME_SETTINGS:
      case FRAME_GOAWAY:
      case FRAME_MAX_PUSH_ID:
      case FRAME_CANCEL_PUSH:
        throw this.#unexpected(type);
      default:
        return 'skip';
    }
  }

  onWhole(_type: number, payload: Uint8Array): void {
    const lines = decodeFieldSection(payload, MAX_FIELD_SECTION_BYTES);
    if (this.#phase === 'end') {
      if (lines === 'too-large') throw trailersTooLarge();
      checkTrailers(lines);
    } else if (lines === 'too-large') {
      this.#owner.onHeadTooLarge(this);
    } else {
      this.#owner.onHead(this, lines);
    }
  }

  onPiece(_type: number, bytes: Uint8Array): void {
    this.#received += bytes.length;
    if (this.#announced !== undefined && this.#received > this.#announced) {
      throw new Http3StreamError(H3_MESSAGE_ERROR, `more content than the content-length of ${this.#announced}`);
    }
    this.#owner.onContent(this, bytes);
  }

  #onHeadersFrame(length: number): TlvTreatment {
    if (this.#phase === 'end' || (this.#phase === 'content' && this.#dataOnly)) throw this.#unexpected(FRAME_HEADERS);
    const isTrailers = this.#phase === 'content';
    if (isTrailers) this.#phase = 'end';
    if (length <= MAX_FIELD_SECTION_BYTES) return 'whole';
    if (isTrailers) throw trailersTooLarge();
    this.#owner.onHeadTooLarge(this);
    return 'skip';
  }

  #unexpected(type: number): Http3ConnectionError {
    const text = `frame type 0x${type.toString(16)} came on request stream ${this.id}, where ${this.#phase} is next`;
    return new Http3ConnectionError(H3_FRAME_UNEXPECTED, text);
  }
}

function trailersTooLarge(): Http3StreamError {
  return new Http3StreamError(H3_EXCESSIVE_LOAD, `trailers are larger than ${MAX_FIELD_SECTION_BYTES} bytes`);
}
