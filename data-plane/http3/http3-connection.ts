import { encodeData } from './data-frame.ts';
import {
  DATAGRAM_ERROR,
  DATAGRAM_STREAM_CLOSED,
  DATAGRAM_UNKNOWN_STREAM,
  readQuarterStreamId,
  writeQuarterStreamId,
} from './datagram.ts';
import {
  H3_CLOSED_CRITICAL_STREAM,
  H3_DATAGRAM_ERROR,
  H3_EXCESSIVE_LOAD,
  H3_NO_ERROR,
  H3_REQUEST_CANCELLED,
  H3_REQUEST_REJECTED,
  H3_STREAM_CREATION_ERROR,
  Http3ConnectionError,
  Http3StreamError,
  Http3UsageError,
} from './error-codes.ts';
import {
  parseRequestFields,
  parseResponseFields,
  type RequestFields,
  requestLines,
  responseLines,
} from './field-section.ts';
import { GOAWAY_FIRST_NOTICE } from './goaway-frame.ts';
import { encodeHeaders } from './headers-frame.ts';
import type { Http3ConnectionOptions, Http3Events, Http3Role, Http3Transport } from './http3-endpoint.ts';
import { OwnUniStreams } from './own-uni-streams.ts';
import { PeerUniStreams } from './peer-uni-streams.ts';
import { type FieldLine, fieldSectionSize } from './qpack/field-line.ts';
import { MAX_FIELD_SECTION_BYTES, RequestStream, type RequestStreamOwner } from './request-stream.ts';
import { RequestStreams } from './request-streams.ts';
import type { Http3Settings } from './settings-frame.ts';

/** What we read over on a stream that was answered already before we stop the peer, in bytes; ours. */
export const MAX_DISCARDED_BYTES = 4 * 1024 * 1024;

const NO_BYTES = new Uint8Array(0);

/**
 * One HTTP/3 connection (RFC 9114) with extended CONNECT (RFC 9220) and HTTP datagrams (RFC 9297), without I/O and
 * without a clock: QUIC events go in through `receiveStream`, `streamReset` and `datagramStream`, what follows goes out
 * through the transport and the events. A peer's error reaches `onConnectionError` or `onStreamReset`; these methods
 * throw only what an event handler threw.
 */
export class Http3Connection {
  readonly #role: Http3Role;
  readonly #transport: Http3Transport;
  readonly #events: Http3Events;
  readonly #maxSessions: number;
  readonly #ownStreams: OwnUniStreams;
  readonly #peerStreams: PeerUniStreams;
  readonly #requests: RequestStreams;
  /** Those of `#requests`. */
  readonly #open: ReadonlyMap<number, RequestStream>;
  readonly #requestOwner: RequestStreamOwner;
  #peerSettings: Http3Settings | undefined;
  #closed = false;
  #goingAway = false;

  constructor(role: Http3Role, transport: Http3Transport, events: Http3Events, options: Http3ConnectionOptions = {}) {
    this.#role = role;
    this.#transport = transport;
    this.#events = events;
    this.#requests = new RequestStreams(role, options);
    this.#open = this.#requests.open;
    this.#maxSessions = options.maxSessions ?? 0;
    this.#ownStreams = new OwnUniStreams(role, transport);
    this.#peerStreams = new PeerUniStreams(role, {
      onPeerSettings: (settings) => {
        this.#peerSettings = settings;
        events.onSettings(settings);
      },
      onPeerGoaway: (id) => {
        this.#goingAway = true;
        events.onGoaway(id);
      },
    });
    this.#requestOwner = {
      onHead: (stream, lines) => (role === 'server' ? this.#onRequest(stream, lines) : this.#onResponse(stream, lines)),
      onHeadTooLarge: (stream) => this.#onHeadTooLarge(stream),
      onContent: (stream, bytes) => events.onData(stream.id, bytes),
      ...(this.#maxSessions > 0 && {
        onSessionStream: (stream: RequestStream, sessionId: number) => events.onSessionStream?.(stream.id, sessionId),
      }),
    };
  }

  /** The peer's SETTINGS, once they came. */
  get peerSettings(): Http3Settings | undefined {
    return this.#peerSettings;
  }

  /** Whether the connection was closed from here, by `close` or because of the peer's error. */
  get isClosed(): boolean {
    return this.#closed;
  }

  /** How many request streams are open. */
  get openRequestStreams(): number {
    return this.#open.size;
  }

  /** Opens the control stream, with SETTINGS, and the QPACK streams. To be called once, as soon as streams can be sent. */
  start(): void {
    this.#ownStreams.start(this.#maxSessions);
  }

  /** Bytes of a peer's stream in order, and whether they are its last. The bytes are not kept. */
  receiveStream(streamId: number, bytes: Uint8Array, fin: boolean): void {
    if (this.#closed) return;
    try {
      if (streamId % 4 >= 2) this.#peerStreams.receive(streamId, bytes, fin);
      else if (streamId % 4 === 0) this.#receiveRequestStream(streamId, bytes, fin);
      else throw new Http3ConnectionError(H3_STREAM_CREATION_ERROR, 'a server opened a bidirectional stream');
    } catch (error) {
      this.#fail(streamId, error);
    }
  }

  /** The peer reset a stream, or asked to stop sending on it. Either ends a request in both directions. */
  streamReset(streamId: number, errorCode: number): void {
    if (this.#closed) return;
    try {
      if (streamId % 4 === 0) this.#requestWasReset(streamId, errorCode);
      else if (this.#ownStreams.has(streamId)) {
        throw new Http3ConnectionError(H3_CLOSED_CRITICAL_STREAM, `the peer stopped our stream ${streamId}`);
      } else this.#peerStreams.close(streamId);
    } catch (error) {
      this.#fail(streamId, error);
    }
  }

  /**
   * Client: sends a request and answers its stream id. Throws Http3UsageError: H3_NOT_READY when the peer has not
   * (yet) allowed extended CONNECT, H3_GOING_AWAY after its GOAWAY, H3_FIELDS_TOO_LARGE, H3_INVALID_FIELD.
   */
  sendRequest(request: RequestFields, fin = false): number {
    const lines = requestLines(request);
    if (this.#closed || this.#goingAway)
      throw new Http3UsageError('H3_GOING_AWAY', 'the server takes no more requests');
    if (request.protocol !== undefined && !this.#peerSettings?.enableConnectProtocol) {
      throw new Http3UsageError('H3_NOT_READY', 'the server has not allowed extended CONNECT');
    }
    const limit = this.#peerSettings?.maxFieldSectionSize ?? Number.POSITIVE_INFINITY;
    if (fieldSectionSize(lines) > limit) {
      throw new Http3UsageError(
        'H3_FIELDS_TOO_LARGE',
        `the request is larger than the ${limit} bytes the server takes`,
      );
    }
    const stream = new RequestStream('client', this.#transport.openRequestStream(), this.#requestOwner);
    stream.takesDatagrams = request.protocol !== undefined;
    stream.isConnect = request.method === 'CONNECT';
    stream.sendEnded = fin;
    this.#requests.add(stream);
    this.#transport.sendStream(stream.id, encodeHeaders(lines), fin);
    return stream.id;
  }

  /**
   * Server: answers a request. With `fin` nothing more of the request is read and no event of it follows, so this is
   * how to refuse one. False when the stream is gone or has its final response already. Throws Http3UsageError H3_INVALID_FIELD.
   */
  sendResponse(streamId: number, status: number, fields: readonly FieldLine[], fin: boolean): boolean {
    const stream = this.#open.get(streamId);
    if (stream === undefined || stream.responded || stream.sendEnded) return false;
    const frame = encodeHeaders(responseLines(status, fields));
    stream.responded = status >= 200;
    this.#transport.sendStream(streamId, frame, fin);
    if (fin) {
      stream.sendEnded = true;
      stream.discard();
      this.#forgetIfDone(stream);
    }
    return true;
  }

  /** Sends content as one DATA frame. False when our side of the stream is not open (any more). */
  sendData(streamId: number, bytes: Uint8Array): boolean {
    const stream = this.#open.get(streamId);
    if (stream === undefined || !this.#canSend(stream)) return false;
    this.#transport.sendStream(streamId, encodeData(bytes), false);
    return true;
  }

  /** Sends bytes on a stream of a session as they are. False when our side of it is not open (any more). */
  sendRaw(streamId: number, bytes: Uint8Array): boolean {
    const stream = this.#open.get(streamId);
    if (stream === undefined || !this.#canSend(stream)) return false;
    this.#transport.sendStream(streamId, bytes, false);
    return true;
  }

  /** Ends our side of a stream cleanly. */
  endStream(streamId: number): void {
    const stream = this.#open.get(streamId);
    if (stream === undefined || stream.sendEnded) return;
    stream.sendEnded = true;
    this.#transport.sendStream(streamId, NO_BYTES, true);
    this.#forgetIfDone(stream);
  }

  /** Gives a stream up in both directions. No event follows. */
  abortStream(streamId: number, errorCode: number): void {
    const stream = this.#open.get(streamId);
    if (stream === undefined) return;
    this.#requests.forget(stream);
    this.#transport.resetStream(streamId, errorCode);
  }

  /** Tells the peer that this connection will go away, before it is known which request is the last (RFC 9114 5.2). */
  announceShutdown(): void {
    this.#sendGoaway(this.#role === 'server' ? GOAWAY_FIRST_NOTICE : 0);
  }

  /** Server: serves no request stream above the highest one seen; later ones get H3_REQUEST_REJECTED. */
  refuseNewRequests(): void {
    this.#sendGoaway(this.#requests.refuseNew());
  }

  /** Closes the connection. No event follows. */
  close(errorCode: number = H3_NO_ERROR, reason = ''): void {
    if (this.#closed) return;
    this.#stop();
    this.#transport.closeConnection(errorCode, reason);
  }

  /**
   * Hot path. The request stream of a datagram in bytes `offset` to `end`, or one of the negative codes DATAGRAM_*.
   * The payload starts at `datagramPayloadOffset(bytes, offset)`. A stream is answered as soon as its request is
   * known, also before its response.
   */
  datagramStream(bytes: Uint8Array, offset: number, end: number): number {
    if (this.#closed) return DATAGRAM_UNKNOWN_STREAM;
    const streamId = readQuarterStreamId(bytes, offset, end);
    const stream = this.#open.get(streamId);
    if (stream === undefined) return this.#datagramWithoutStream(streamId);
    if (stream.receiveEnded || stream.discarded !== undefined) return DATAGRAM_STREAM_CLOSED;
    if (stream.takesDatagrams) return streamId;
    if (stream.takesDatagrams === undefined) return DATAGRAM_UNKNOWN_STREAM;
    this.#fail(streamId, new Http3StreamError(H3_DATAGRAM_ERROR, 'a datagram came for a request without datagrams'));
    return DATAGRAM_ERROR;
  }

  /**
   * Hot path. Writes the header of a datagram of this stream and answers its length in bytes, or 0 when none may be
   * sent: the peer takes no datagrams, the stream is gone, not answered yet, or our side of it has ended.
   */
  writeDatagramHeader(target: Uint8Array, offset: number, streamId: number): number {
    const stream = this.#open.get(streamId);
    if (stream === undefined || !stream.takesDatagrams || !this.#canSend(stream)) return 0;
    return this.#peerSettings?.h3Datagram ? writeQuarterStreamId(target, offset, streamId) : 0;
  }

  #receiveRequestStream(streamId: number, bytes: Uint8Array, fin: boolean): void {
    const stream = this.#open.get(streamId) ?? this.#acceptRequestStream(streamId);
    if (stream === undefined) return;
    stream.push(bytes);
    if (this.#open.get(streamId) !== stream) return;
    if (fin) {
      stream.end();
      if (stream.discarded === undefined) this.#events.onStreamEnd(streamId);
      this.#forgetIfDone(stream);
    } else if (stream.discarded !== undefined && stream.discarded > MAX_DISCARDED_BYTES) {
      this.#events.onLimitExceeded?.('refused_content');
      this.abortStream(streamId, H3_NO_ERROR);
    }
  }

  #acceptRequestStream(streamId: number): RequestStream | undefined {
    const verdict = this.#requests.judge(streamId);
    if (verdict === 'served') {
      this.#requests.add(new RequestStream('server', streamId, this.#requestOwner));
      this.#events.onRequestStreamOpened?.(streamId);
      return this.#open.get(streamId);
    }
    if (verdict === 'too_many') this.#events.onLimitExceeded?.('streams');
    if (verdict !== 'late') this.#transport.resetStream(streamId, H3_REQUEST_REJECTED);
    return undefined;
  }

  #onRequest(stream: RequestStream, lines: readonly FieldLine[]): void {
    const request = parseRequestFields(lines);
    stream.acceptHead(request.fields, request.method === 'CONNECT');
    stream.takesDatagrams = request.protocol !== undefined;
    this.#events.onRequest(stream.id, request);
  }

  #onResponse(stream: RequestStream, lines: readonly FieldLine[]): void {
    const { status, fields } = parseResponseFields(lines);
    if (status < 200) {
      stream.countInterimResponse();
      return;
    }
    stream.acceptHead(fields, stream.isConnect && status < 300);
    this.#events.onResponse(stream.id, status, fields);
  }

  #onHeadTooLarge(stream: RequestStream): void {
    if (this.#role === 'client') {
      throw new Http3StreamError(H3_EXCESSIVE_LOAD, `a response head is larger than ${MAX_FIELD_SECTION_BYTES} bytes`);
    }
    this.sendResponse(stream.id, 431, [], true);
    this.#events.onRequestRefused?.(stream.id, 431);
  }

  #requestWasReset(streamId: number, errorCode: number): void {
    const stream = this.#open.get(streamId);
    if (stream === undefined) return;
    const wasRefused = stream.discarded !== undefined;
    this.#requests.forget(stream);
    this.#transport.resetStream(streamId, H3_REQUEST_CANCELLED);
    if (!wasRefused) this.#events.onStreamReset(streamId, errorCode);
  }

  #datagramWithoutStream(streamId: number): number {
    const error = this.#requests.datagramError(streamId);
    if (error === undefined) {
      return this.#requests.wasClosed(streamId) ? DATAGRAM_STREAM_CLOSED : DATAGRAM_UNKNOWN_STREAM;
    }
    this.#fail(streamId, error);
    return DATAGRAM_ERROR;
  }

  #canSend(stream: RequestStream): boolean {
    return !this.#closed && !stream.sendEnded && (this.#role === 'client' || stream.responded);
  }

  #sendGoaway(id: number | bigint): void {
    if (!this.#closed) this.#ownStreams.sendGoaway(id);
  }

  #forgetIfDone(stream: RequestStream): void {
    if (stream.sendEnded && stream.receiveEnded) this.#requests.forget(stream);
  }

  #fail(streamId: number, error: unknown): void {
    if (error instanceof Http3ConnectionError) {
      if (this.#closed) return;
      this.#stop();
      this.#transport.closeConnection(error.wireCode, error.message);
      this.#events.onConnectionError(error);
    } else if (error instanceof Http3StreamError) {
      if (!this.#open.has(streamId)) return;
      this.abortStream(streamId, error.wireCode);
      this.#events.onStreamReset(streamId, error.wireCode, error);
    } else {
      throw error;
    }
  }

  #stop(): void {
    this.#closed = true;
    this.#peerStreams.stop();
    this.#requests.forgetAll();
  }
}
