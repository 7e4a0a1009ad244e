import { CodedError } from '../../shared/errors.ts';
import type { Limit } from '../limits.ts';

/** Application error codes on the wire: RFC 9114 8.1, RFC 9204 6, RFC 9297 5.2. */
export const H3_DATAGRAM_ERROR = 0x33;
export const H3_NO_ERROR = 0x100;
export const H3_GENERAL_PROTOCOL_ERROR = 0x101;
export const H3_INTERNAL_ERROR = 0x102;
export const H3_STREAM_CREATION_ERROR = 0x103;
export const H3_CLOSED_CRITICAL_STREAM = 0x104;
export const H3_FRAME_UNEXPECTED = 0x105;
export const H3_FRAME_ERROR = 0x106;
export const H3_EXCESSIVE_LOAD = 0x107;
export const H3_ID_ERROR = 0x108;
export const H3_SETTINGS_ERROR = 0x109;
export const H3_MISSING_SETTINGS = 0x10a;
export const H3_REQUEST_REJECTED = 0x10b;
export const H3_REQUEST_CANCELLED = 0x10c;
export const H3_REQUEST_INCOMPLETE = 0x10d;
export const H3_MESSAGE_ERROR = 0x10e;
export const H3_CONNECT_ERROR = 0x10f;
export const QPACK_DECOMPRESSION_FAILED = 0x200;
export const QPACK_ENCODER_STREAM_ERROR = 0x201;
export const QPACK_DECODER_STREAM_ERROR = 0x202;

const NAMES: ReadonlyMap<number, string> = new Map([
  [H3_DATAGRAM_ERROR, 'H3_DATAGRAM_ERROR'],
  [H3_NO_ERROR, 'H3_NO_ERROR'],
  [H3_GENERAL_PROTOCOL_ERROR, 'H3_GENERAL_PROTOCOL_ERROR'],
  [H3_INTERNAL_ERROR, 'H3_INTERNAL_ERROR'],
  [H3_STREAM_CREATION_ERROR, 'H3_STREAM_CREATION_ERROR'],
  [H3_CLOSED_CRITICAL_STREAM, 'H3_CLOSED_CRITICAL_STREAM'],
  [H3_FRAME_UNEXPECTED, 'H3_FRAME_UNEXPECTED'],
  [H3_FRAME_ERROR, 'H3_FRAME_ERROR'],
  [H3_EXCESSIVE_LOAD, 'H3_EXCESSIVE_LOAD'],
  [H3_ID_ERROR, 'H3_ID_ERROR'],
  [H3_SETTINGS_ERROR, 'H3_SETTINGS_ERROR'],
  [H3_MISSING_SETTINGS, 'H3_MISSING_SETTINGS'],
  [H3_REQUEST_REJECTED, 'H3_REQUEST_REJECTED'],
  [H3_REQUEST_CANCELLED, 'H3_REQUEST_CANCELLED'],
  [H3_REQUEST_INCOMPLETE, 'H3_REQUEST_INCOMPLETE'],
  [H3_MESSAGE_ERROR, 'H3_MESSAGE_ERROR'],
  [H3_CONNECT_ERROR, 'H3_CONNECT_ERROR'],
  [QPACK_DECOMPRESSION_FAILED, 'QPACK_DECOMPRESSION_FAILED'],
  [QPACK_ENCODER_STREAM_ERROR, 'QPACK_ENCODER_STREAM_ERROR'],
  [QPACK_DECODER_STREAM_ERROR, 'QPACK_DECODER_STREAM_ERROR'],
]);

/** The registered name of a wire code, or its hex form. */
export function wireCodeName(wireCode: number): string {
  return NAMES.get(wireCode) ?? `0x${wireCode.toString(16)}`;
}

/** An error that the peer is told about. `code` is the registered name of `wireCode`. */
export abstract class Http3Error extends CodedError {
  readonly wireCode: number;
  /** What there was too much of, where that is what is wrong. */
  readonly limit: Limit | undefined;

  constructor(wireCode: number, message: string, options?: { cause?: unknown; limit?: Limit }) {
    super(wireCodeName(wireCode), message, options);
    this.wireCode = wireCode;
    this.limit = options?.limit;
  }
}

/** Ends the whole connection (RFC 9114 8). */
export class Http3ConnectionError extends Http3Error {}

/** Ends one stream and leaves the others alone. An event handler may throw it to abort the stream it was called for. */
export class Http3StreamError extends Http3Error {}

export type Http3UsageCode = 'H3_NOT_READY' | 'H3_GOING_AWAY' | 'H3_FIELDS_TOO_LARGE' | 'H3_INVALID_FIELD';

/** Our own side asked for something that the protocol does not allow (yet). Nothing was sent. */
export class Http3UsageError extends CodedError {
  constructor(code: Http3UsageCode, message: string) {
    super(code, message);
  }
}
