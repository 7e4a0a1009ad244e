import { encodeData } from './data-frame.ts';
import {
  DATAGRAM_ERROR,
  DATAGRAM_STREAM_CLOSED,
  DATAGRAM_UNKNOWN_STREAM,
  QUARTER_ID_BEYOND_ANY_LIMIT,
  QUARTER_ID_MALFORMED,
  readQuarterStreamId,
  writeQuarterStreamId,
} from './datagram.ts';
import {
  H3_CLOSED_CRITICAL_STREAM,
  H3_DATAGRAM_ERROR,
  H3_EXCESSIVE_LOAD,
  H3_ID_ERROR,
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
import { encodeGoaway, GOAWAY_FIRST_NOTICE } from './goaway-frame.ts';
import { encodeHeaders } from './headers-frame.ts';
import type { Http3Events, Http3Role, Http3Transport } from './http3-endpoint.ts';
import { PeerUniStreams, STREAM_CONTROL, STREAM_QPACK_DECODER, STREAM_QPACK_ENCODER } from './peer-uni-streams.ts';
import { type FieldLine, fieldSectionSize } from './qpack/field-line.ts';
import { RecentStreams } from './recent-streams.ts';
import { MAX_FIELD_SECTION_BYTES, RequestStream, type RequestStreamOwner } from './request-stream.ts';
import {
  encodeSettings,
  type Http3Settings,
  SETTING_ENABLE_CONNECT_PROTOCOL,
  SETTING_ENABLE_WEBTRANSPORT,
  SETTING_GREASE,
  SETTING_H3_DATAGRAM,
  SETTING_MAX_FIELD_SECTION_SIZE,
  SETTING_WEBTRANSPORT_MAX_SESSIONS,
} from './settings-frame.ts';

/** Request streams open at once when the options do not say; ours. A VPN client needs one. */
export const DEFAULT_MAX_REQUEST_STREAMS = 100;

/** What we read over on a stream that was answered already before we stop the peer, in bytes; ours. */
export const MAX_DISCARDED_BYTES = 4 * 1024 * 1024;

/** The stream types every endpoint opens first; the ids of the nth stream are 4n + 2 at a client, 4n + 3 at a server. */
const OWN_STREAM_TYPES = [STREAM_CONTROL, STREAM_QPACK_ENCODER, STREAM_QPACK_DECODER];

const NO_BYTES = new Uint8Array(0);

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
  readonly #maxRequestStreams: number;
  readonly #initialStreamLimit: number;
  readonly #maxSessions: number;
  readonly #uniStreams: PeerUniStreams;
  readonly #requests = new Map<number, RequestStream>();
  readonly #requestOwner: RequestStreamOwner;
  readonly #recentlyClosed = new RecentStreams();
  #peerSettings: Http3Settings | undefined;
  #closed = false;
  #requestStreamsSeen = 0;
  #highestRequest = -4;
  /** Server: the first request stream that is not served. Client: the same, as the server said. */
  #firstRefused = Number.POSITIVE_INFINITY;
  #goingAway = false;

  constructor(role: Http3Role, transport: Http3Transport, events: Http3Events, options: Http3ConnectionOptions = {}) {
    this.#role = role;
    this.#transport = transport;
    this.#events = events;
    this.#maxRequestStreams = options.maxRequestStreams ?? DEFAULT_MAX_REQUEST_STREAMS;
    this.#initialStreamLimit = options.initialStreamLimit ?? Number.POSITIVE_INFINITY;
    this.#maxSessions = options.maxSessions ?? 0;
    this.#uniStreams = new PeerUniStreams(role, {
      onPeerSettings: (settings) => {
        this.#peerSettings = settings;
        events.onSettings(settings);
      },
      onPeerGoaway: (id) => {
        this.#goingAway = true;
        if (role === 'client') this.#firstRefused = id;
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
    return this.#requests.size;
  }

  /** Opens the control stream, with SETTINGS, and the QPACK streams. To be called once, as soon as streams can be sent. */
  start(): void {
    const settings: [number, number][] = [[SETTING_MAX_FIELD_SECTION_SIZE, MAX_FIELD_SECTION_BYTES]];
    if (this.#role === 'server') settings.push([SETTING_ENABLE_CONNECT_PROTOCOL, 1]);
    if (this.#maxSessions > 0) {
      settings.push([SETTING_ENABLE_WEBTRANSPORT, 1], [SETTING_WEBTRANSPORT_MAX_SESSIONS, this.#maxSessions]);
    }
    settings.push([SETTING_H3_DATAGRAM, 1], [SETTING_GREASE, 0]);
    for (const [index, type] of OWN_STREAM_TYPES.entries()) {
      const payload = type === STREAM_CONTROL ? encodeSettings(settings) : NO_BYTES;
      const bytes = new Uint8Array(1 + payload.length);
      bytes[0] = type;
      bytes.set(payload, 1);
      this.#transport.sendStream(this.#ownUniStream(index), bytes, false);
    }
  }

  /** Bytes of a peer's stream in order, and whether they are its last. The bytes are not kept. */
  receiveStream(streamId: number, bytes: Uint8Array, fin: boolean): void {
    if (this.#closed) return;
    try {
      if (streamId % 4 >= 2) this.#uniStreams.receive(streamId, bytes, fin);
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
      else if (this.#isOwnUniStream(streamId)) {
        throw new Http3ConnectionError(H3_CLOSED_CRITICAL_STREAM, `the peer stopped our stream ${streamId}`);
      } else this.#uniStreams.close(streamId);
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
    this.#requests.set(stream.id, stream);
    this.#transport.sendStream(stream.id, encodeHeaders(lines), fin);
    return stream.id;
  }

  /**
   * Server: answers a request. With `fin` nothing more of the request is read and no event of it follows, so this is
   * how to refuse one. False when the stream is gone or has its final response already. Throws Http3UsageError H3_INVALID_FIELD.
   */
  sendResponse(streamId: number, status: number, fields: readonly FieldLine[], fin: boolean): boolean {
    const stream = this.#requests.get(streamId);
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
    const stream = this.#requests.get(streamId);
    if (stream === undefined || !this.#canSend(stream)) return false;
    this.#transport.sendStream(streamId, encodeData(bytes), false);
    return true;
  }

  /** Sends bytes on a stream of a session as they are. False when our side of it is not open (any more). */
  sendRaw(streamId: number, bytes: Uint8Array): boolean {
    const stream = this.#requests.get(streamId);
    if (stream === undefined || !this.#canSend(stream)) return false;
    this.#transport.sendStream(streamId, bytes, false);
    return true;
  }

  /** Ends our side of a stream cleanly. */
  endStream(streamId: number): void {
    const stream = this.#requests.get(streamId);
    if (stream === undefined || stream.sendEnded) return;
    stream.sendEnded = true;
    this.#transport.sendStream(streamId, NO_BYTES, true);
    this.#forgetIfDone(stream);
  }

  /** Gives a stream up in both directions. No event follows. */
  abortStream(streamId: number, errorCode: number): void {
    const stream = this.#requests.get(streamId);
    if (stream === undefined) return;
    this.#forget(stream);
    this.#transport.resetStream(streamId, errorCode);
  }

  /** Tells the peer that this connection will go away, before it is known which request is the last (RFC 9114 5.2). */
  announceShutdown(): void {
    this.#sendGoaway(this.#role === 'server' ? GOAWAY_FIRST_NOTICE : 0);
  }

  /** Server: serves no request stream above the highest one seen; later ones get H3_REQUEST_REJECTED. */
  refuseNewRequests(): void {
    this.#firstRefused = this.#highestRequest + 4;
    this.#sendGoaway(this.#firstRefused);
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
    const stream = this.#requests.get(streamId);
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
    const stream = this.#requests.get(streamId);
    if (stream === undefined || !stream.takesDatagrams || !this.#canSend(stream)) return 0;
    return this.#peerSettings?.h3Datagram ? writeQuarterStreamId(target, offset, streamId) : 0;
  }

  #receiveRequestStream(streamId: number, bytes: Uint8Array, fin: boolean): void {
    const stream = this.#requests.get(streamId) ?? this.#acceptRequestStream(streamId);
    if (stream === undefined) return;
    stream.push(bytes);
    if (this.#requests.get(streamId) !== stream) return;
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
    if (this.#role === 'client' || this.#recentlyClosed.has(streamId)) return undefined;
    this.#requestStreamsSeen++;
    const tooMany = this.#requests.size >= this.#maxRequestStreams;
    if (tooMany) this.#events.onLimitExceeded?.('streams');
    if (streamId >= this.#firstRefused || tooMany) {
      this.#recentlyClosed.add(streamId);
      this.#transport.resetStream(streamId, H3_REQUEST_REJECTED);
      return undefined;
    }
    this.#highestRequest = Math.max(this.#highestRequest, streamId);
    const stream = new RequestStream('server', streamId, this.#requestOwner);
    this.#requests.set(streamId, stream);
    this.#events.onRequestStreamOpened?.(streamId);
    return this.#requests.get(streamId);
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
    const stream = this.#requests.get(streamId);
    if (stream === undefined) return;
    const wasRefused = stream.discarded !== undefined;
    this.#forget(stream);
    this.#transport.resetStream(streamId, H3_REQUEST_CANCELLED);
    if (!wasRefused) this.#events.onStreamReset(streamId, errorCode);
  }

  #datagramWithoutStream(streamId: number): number {
    const error = this.#datagramStreamError(streamId);
    if (error === undefined)
      return this.#recentlyClosed.has(streamId) ? DATAGRAM_STREAM_CLOSED : DATAGRAM_UNKNOWN_STREAM;
    this.#fail(streamId, error);
    return DATAGRAM_ERROR;
  }

  #datagramStreamError(streamId: number): Http3ConnectionError | undefined {
    if (streamId === QUARTER_ID_MALFORMED) {
      return new Http3ConnectionError(H3_DATAGRAM_ERROR, 'a datagram has no quarter stream id below 2^60');
    }
    // QUIC raises the limit by one for each stream that closed, so it is at most the initial one plus all seen.
    const isBeyond = this.#role === 'server' && streamId / 4 >= this.#initialStreamLimit + this.#requestStreamsSeen;
    if (streamId !== QUARTER_ID_BEYOND_ANY_LIMIT && !isBeyond) return undefined;
    return new Http3ConnectionError(H3_ID_ERROR, 'a datagram is for a stream beyond the stream limit');
  }

  #canSend(stream: RequestStream): boolean {
    return !this.#closed && !stream.sendEnded && (this.#role === 'client' || stream.responded);
  }

  #sendGoaway(id: number | bigint): void {
    if (!this.#closed) this.#transport.sendStream(this.#ownUniStream(0), encodeGoaway(id), false);
  }

  #ownUniStream(index: number): number {
    return 4 * index + (this.#role === 'server' ? 3 : 2);
  }

  #isOwnUniStream(streamId: number): boolean {
    return streamId % 4 === (this.#role === 'server' ? 3 : 2);
  }

  #forgetIfDone(stream: RequestStream): void {
    if (stream.sendEnded && stream.receiveEnded) this.#forget(stream);
  }

  #forget(stream: RequestStream): void {
    stream.discard();
    this.#requests.delete(stream.id);
    this.#recentlyClosed.add(stream.id);
  }

  #fail(streamId: number, error: unknown): void {
    if (error instanceof Http3ConnectionError) {
      if (this.#closed) return;
      this.#stop();
      this.#transport.closeConnection(error.wireCode, error.message);
      this.#events.onConnectionError(error);
    } else if (error instanceof Http3StreamError) {
      if (!this.#requests.has(streamId)) return;
      this.abortStream(streamId, error.wireCode);
      this.#events.onStreamReset(streamId, error.wireCode, error);
    } else {
      throw error;
    }
  }

  #stop(): void {
    this.#closed = true;
    this.#uniStreams.stop();
    for (const stream of this.#requests.values()) stream.discard();
    this.#requests.clear();
  }
}
