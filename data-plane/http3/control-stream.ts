import {
  H3_EXCESSIVE_LOAD,
  H3_FRAME_ERROR,
  H3_FRAME_UNEXPECTED,
  H3_ID_ERROR,
  H3_MISSING_SETTINGS,
  Http3ConnectionError,
} from './error-codes.ts';
import {
  FRAME_CANCEL_PUSH,
  FRAME_DATA,
  FRAME_GOAWAY,
  FRAME_HEADERS,
  FRAME_MAX_PUSH_ID,
  FRAME_PUSH_PROMISE,
  FRAME_SETTINGS,
  isForbiddenFrameType,
  parseIdPayload,
} from './frame.ts';
import { parseGoaway } from './goaway-frame.ts';
import type { Http3Role } from './http3-endpoint.ts';
import { type Http3Settings, MAX_SETTINGS_BYTES, parseSettings } from './settings-frame.ts';
import { type TlvHandler, TlvReader, type TlvTreatment } from './tlv-reader.ts';
import { MAX_VARINT_BYTES } from './varint.ts';

export interface ControlStreamOwner {
  onPeerSettings(settings: Http3Settings): void;
  onPeerGoaway(id: number): void;
}

/** Reads the peer's control stream (RFC 9114 6.2.1, 7.2). All its errors are connection errors. */
export class ControlStream implements TlvHandler {
  readonly #role: Http3Role;
  readonly #owner: ControlStreamOwner;
  readonly #reader = new TlvReader(this);
  #hasSettings = false;
  #lastGoaway = Number.POSITIVE_INFINITY;
  #maxPushId = -1;

  /** `role` is ours, not the peer's. */
  constructor(role: Http3Role, owner: ControlStreamOwner) {
    this.#role = role;
    this.#owner = owner;
  }

  push(bytes: Uint8Array): void {
    this.#reader.push(bytes);
  }

  stop(): void {
    this.#reader.stop();
  }

  onHeader(type: number, length: number): TlvTreatment {
    if (isForbiddenFrameType(type)) throw unexpected(type, 'belongs to HTTP/2');
    if (!this.#hasSettings && type !== FRAME_SETTINGS) {
      throw new Http3ConnectionError(H3_MISSING_SETTINGS, `the control stream starts with frame type ${type}`);
    }
    switch (type) {
      case FRAME_SETTINGS:
        if (this.#hasSettings) throw unexpected(type, 'came twice');
        if (length > MAX_SETTINGS_BYTES) {
          const text = `SETTINGS has ${length} bytes, the most we take is ${MAX_SETTINGS_BYTES}`;
          throw new Http3ConnectionError(H3_EXCESSIVE_LOAD, text, { limit: 'settings' });
        }
        this.#hasSettings = true;
        return 'whole';
      case FRAME_DATA:
      case FRAME_HEADERS:
      case FRAME_PUSH_PROMISE:
        throw unexpected(type, 'came on the control stream');
      case FRAME_MAX_PUSH_ID:
        if (this.#role === 'client') throw unexpected(type, 'came from a server');
        return wholeId(type, length);
      case FRAME_GOAWAY:
      case FRAME_CANCEL_PUSH:
        return wholeId(type, length);
      default:
        return 'skip';
    }
  }

  onWhole(type: number, payload: Uint8Array): void {
    switch (type) {
      case FRAME_SETTINGS:
        this.#owner.onPeerSettings(parseSettings(payload));
        break;
      case FRAME_GOAWAY:
        this.#takeGoaway(payload);
        break;
      case FRAME_MAX_PUSH_ID: {
        const id = parseIdPayload('MAX_PUSH_ID', payload);
        if (id < this.#maxPushId) throw badId(`MAX_PUSH_ID falls from ${this.#maxPushId} to ${id}`);
        this.#maxPushId = id;
        break;
      }
      case FRAME_CANCEL_PUSH:
        // Neither side ever promises a push here, so there is none to cancel.
        throw badId(`CANCEL_PUSH for push ${parseIdPayload('CANCEL_PUSH', payload)}, which was never promised`);
    }
  }

  onPiece(): void {}

  #takeGoaway(payload: Uint8Array): void {
    const { id, isRequestStream } = parseGoaway(payload);
    if (this.#role === 'client' && !isRequestStream) throw badId(`GOAWAY ${id} is not a request stream`);
    if (id > this.#lastGoaway) throw badId(`GOAWAY rises from ${this.#lastGoaway} to ${id}`);
    this.#lastGoaway = id;
    this.#owner.onPeerGoaway(id);
  }
}

function wholeId(type: number, length: number): TlvTreatment {
  if (length <= MAX_VARINT_BYTES) return 'whole';
  throw new Http3ConnectionError(H3_FRAME_ERROR, `frame type ${type} has ${length} bytes, expected one id`);
}

function unexpected(type: number, why: string): Http3ConnectionError {
  return new Http3ConnectionError(H3_FRAME_UNEXPECTED, `frame type 0x${type.toString(16)} ${why}`);
}

function badId(why: string): Http3ConnectionError {
  return new Http3ConnectionError(H3_ID_ERROR, why);
}
