import { H3_NO_ERROR } from '../http3/error-codes.ts';
import type { Http3Connection } from '../http3/http3-connection.ts';
import { encodeCapsule } from '../masque/capsule.ts';
import type { QuicEndpoint } from '../quic/quic-endpoint.ts';
import { CLOSE_CODE_BYTES, SESSION_CLOSE } from '../webtransport/session-capsule.ts';
import { Http3TunnelTransport } from './http3-tunnel-transport.ts';
import type { TunnelPath } from './send-packet.ts';

/** Streams of a session that has ended (draft-ietf-webtrans-http3 9.5). */
const WT_SESSION_GONE = 0x170d7b68;

/**
 * Carries a tunnel in a WebTransport session on HTTP/3: packets in its datagrams, which are those of its request, and capsules on the stream
 * that the client opens. What is sent before that waits.
 */
export class Http3SessionTransport extends Http3TunnelTransport {
  readonly #http3: Http3Connection;
  readonly #requestStreamId: number;
  /** Only what opens the tunnel: the client can ask for nothing yet. */
  #waiting: Uint8Array[] = [];
  #streamId: number | undefined;

  constructor(quic: QuicEndpoint, http3: Http3Connection, path: TunnelPath) {
    super(quic, http3, path);
    this.#http3 = http3;
    this.#requestStreamId = path.streamId;
  }

  /** The stream of the capsules, once the client opened it. */
  get streamId(): number | undefined {
    return this.#streamId;
  }

  streamOpened(streamId: number): void {
    this.#streamId = streamId;
    for (const capsule of this.#waiting) this.#http3.sendRaw(streamId, capsule);
    this.#waiting = [];
  }

  override sendCapsule(capsule: Uint8Array): void {
    if (this.#streamId === undefined) this.#waiting.push(capsule);
    else this.#http3.sendRaw(this.#streamId, capsule);
  }

  override end(): void {
    if (this.#streamId !== undefined) this.#http3.endStream(this.#streamId);
    this.#close(0);
  }

  override abort(errorCode: number): void {
    if (this.#streamId !== undefined) this.#http3.abortStream(this.#streamId, WT_SESSION_GONE);
    this.#close(errorCode);
  }

  #close(code: number): void {
    const value = new Uint8Array(CLOSE_CODE_BYTES);
    new DataView(value.buffer).setUint32(0, code);
    const streamId = this.#requestStreamId;
    if (this.#http3.sendData(streamId, encodeCapsule(SESSION_CLOSE, value))) this.#http3.endStream(streamId);
    else this.#http3.abortStream(streamId, H3_NO_ERROR);
  }
}
