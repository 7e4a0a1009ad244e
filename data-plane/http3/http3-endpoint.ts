import type { Limit } from '../limits.ts';
import type { Http3ConnectionError, Http3StreamError } from './error-codes.ts';
import type { RequestFields } from './field-section.ts';
import type { FieldLine } from './qpack/field-line.ts';
import type { Http3Settings } from './settings-frame.ts';

export type Http3Role = 'client' | 'server';

/** What HTTP/3 needs from QUIC. Stream ids are QUIC's. None of these may call back into the connection. */
export interface Http3Transport {
  /** Sends bytes in order, keeping what flow control blocks. The bytes belong to the transport from here on. */
  sendStream(streamId: number, bytes: Uint8Array, fin: boolean): void;
  /** RESET_STREAM and STOP_SENDING, whichever still applies. */
  resetStream(streamId: number, errorCode: number): void;
  /** CONNECTION_CLOSE with an application error code. */
  closeConnection(errorCode: number, reason: string): void;
  /** The id of a new client-initiated bidirectional stream. Asked of clients only. */
  openRequestStream(): number;
}

/**
 * What a connection tells its owner. A handler may call back into the connection, and may throw an Http3StreamError to
 * abort the stream it was called for: the peer is told, then `onStreamReset` is called like for any other broken stream.
 */
export interface Http3Events {
  onSettings(peer: Http3Settings): void;
  /** Server: the first bytes of a request stream came, without a whole request yet. Aborting it after a while is the owner's. */
  onRequestStreamOpened?(streamId: number): void;
  /** Server: a whole, valid request head. */
  onRequest(streamId: number, request: RequestFields): void;
  /** Server: the connection itself answered a request with this status; `onRequest` is never called for it. */
  onRequestRefused?(streamId: number, status: number): void;
  /** Server: the peer wanted too much, and no other event says so. */
  onLimitExceeded?(limit: Limit): void;
  /** Client: the final response; interim ones are passed over. */
  onResponse(streamId: number, status: number, fields: readonly FieldLine[]): void;
  /** Server: a stream was opened, not for a request but in the WebTransport session with this id. Its content comes as `onData`. */
  onSessionStream?(streamId: number, sessionId: number): void;
  /** A piece of content. The bytes are only valid during the call. */
  onData(streamId: number, bytes: Uint8Array): void;
  /** The peer ended its side cleanly. Our side stays open until `endStream` or `abortStream`. */
  onStreamEnd(streamId: number): void;
  /** The stream is gone in both directions: reset by the peer or, when there is an error, aborted here because of it. */
  onStreamReset(streamId: number, errorCode: number, error?: Http3StreamError): void;
  /** The peer goes away: from a server the first request stream it will not serve. Infinity above 2^53 - 1. */
  onGoaway(id: number): void;
  /** The peer broke the protocol. `closeConnection` was called already; nothing follows. */
  onConnectionError(error: Http3ConnectionError): void;
}

export interface Http3ConnectionOptions {
  /** Request streams that may be open at once; more are refused with H3_REQUEST_REJECTED. */
  readonly maxRequestStreams?: number;
  /**
   * The limit of client-initiated bidirectional streams our transport parameters gave (initial_max_streams_bidi).
   * With it, a datagram for a stream that could not exist is H3_ID_ERROR (RFC 9297 2.1); without it, it is dropped.
   */
  readonly initialStreamLimit?: number;
  /** Server: how many WebTransport sessions a client is told that it may have on this connection; without it, it hears of none. */
  readonly maxSessions?: number;
}
