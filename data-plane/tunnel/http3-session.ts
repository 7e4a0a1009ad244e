import { H3_REQUEST_INCOMPLETE, type Http3StreamError } from '../http3/error-codes.ts';
import { type TlvHandler, TlvReader, type TlvTreatment } from '../http3/tlv-reader.ts';
import { malformedCapsule } from '../masque/capsule.ts';
import { MAX_CLOSE_BYTES, readCloseCode, SESSION_CLOSE } from '../webtransport/session-capsule.ts';
import type { Http3SessionTransport } from './http3-session-transport.ts';
import type { Tunnel } from './tunnel.ts';

/** How long a session may be open before its client has opened the stream of the capsules (ours). */
const STREAM_TIMEOUT_MS = 10_000;

/**
 * A WebTransport session on HTTP/3 and its tunnel (draft-ietf-webtrans-http3): what comes on the stream of its request, which ends the
 * session, and on the one that the client opens, which has the tunnel's capsules.
 */
export class Http3Session implements TlvHandler {
  readonly requestStreamId: number;
  readonly transport: Http3SessionTransport;
  readonly #tunnel: Tunnel;
  readonly #control = new TlvReader(this);

  constructor(requestStreamId: number, tunnel: Tunnel, transport: Http3SessionTransport) {
    this.requestStreamId = requestStreamId;
    this.#tunnel = tunnel;
    this.transport = transport;
  }

  /** False for a stream beside the one that there may be. */
  streamOpened(streamId: number): boolean {
    if (this.transport.streamId !== undefined) return false;
    this.transport.streamOpened(streamId);
    return true;
  }

  /** Throws Http3StreamError with the code to abort the stream with. */
  receive(streamId: number, bytes: Uint8Array): void {
    if (streamId === this.requestStreamId) this.#control.push(bytes);
    else this.#tunnel.receiveContent(bytes);
  }

  /** The client ended its side of a stream. Throws Http3StreamError when it did so inside a capsule. */
  streamEnded(streamId: number): void {
    if (streamId !== this.requestStreamId) this.#tunnel.receiveEnd();
    this.#tunnel.end('client', 'end of stream');
    this.transport.end();
  }

  /** A stream was reset, by the client or because of its error. */
  streamReset(errorCode: number, error?: Http3StreamError): void {
    if (error === undefined) this.#tunnel.end('client', `reset, code 0x${errorCode.toString(16)}`);
    else this.#tunnel.end('error', error.message);
    this.transport.abort(errorCode);
  }

  /** Ends it where its client opened no stream in time; whether that was so. */
  sweep(nowMs: number): boolean {
    const { state } = this.#tunnel.session;
    if (state.kind !== 'open' || this.transport.streamId !== undefined) return false;
    if (nowMs - state.openedMs < STREAM_TIMEOUT_MS) return false;
    this.#tunnel.end('error', 'the client opened no stream');
    this.transport.abort(H3_REQUEST_INCOMPLETE);
    return true;
  }

  // --- capsules on the stream of the request

  onHeader(type: number, length: number): TlvTreatment {
    if (type !== SESSION_CLOSE) return 'skip';
    if (length > MAX_CLOSE_BYTES) throw malformedCapsule(`a close of ${length} bytes`);
    return 'whole';
  }

  onWhole(_type: number, value: Uint8Array): void {
    const code = readCloseCode(value);
    if (code === undefined) throw malformedCapsule('a close without a code');
    this.#control.stop();
    this.#tunnel.end('client', `closed, code ${code}`);
    this.transport.end();
  }

  onPiece(): void {}
}
