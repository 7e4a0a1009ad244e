import { constants, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { errorCode } from '../../shared/errors.ts';
import type { CloseReason } from '../../shared/events/node-events.ts';
import { Http3StreamError } from '../http3/error-codes.ts';
import { parseRequestFields, type RequestFields } from '../http3/field-section.ts';
import { type FieldLine, fieldSectionSize } from '../http3/qpack/field-line.ts';
import { MAX_FIELD_SECTION_BYTES } from '../http3/request-stream.ts';
import { refusalFields } from '../masque/connect-ip-response.ts';
import { decideTunnelRequest } from '../tunnel/decide-tunnel-request.ts';
import type { RemotePeer, WebTunnels } from '../web-thread/web-tunnels.ts';
import type { SessionOpener } from '../webtransport/session-opener.ts';
import { SessionTunnel } from '../webtransport/session-tunnel.ts';
import { http2ErrorCode } from './http2-error-code.ts';
import {
  CONNECTION_WINDOW_BYTES,
  IDLE_CONNECTION_MS,
  MAX_STREAMS,
  PING_INTERVAL_MS,
  SILENCE_TIMEOUT_MS,
  STREAM_WINDOW_BYTES,
} from './http2-limits.ts';
import { type Http2Request, Http2Tunnel, type Http2TunnelOwner } from './http2-tunnel.ts';
import { respondWhole } from './respond.ts';

const SESSIONS = ['webtransport'];
const HEAD_TOO_LARGE = 431;
const SERVICE_UNAVAILABLE = 503;
/** nghttp2's error of a header section in more frames than it takes, which is all that Node tells of it. */
const TOO_MANY_CONTINUATIONS = -905;

/** What a connection asks of the server that it belongs to. */
export interface Http2ConnectionHost {
  readonly tunnels: WebTunnels;
  /** Opens WebTransport sessions, which are served then instead of CONNECT-IP. */
  readonly sessions: SessionOpener | undefined;
  /** The names that requests may be made to; any where there are none. */
  readonly authorities: readonly string[];
  /** A request was refused, or the connection broke before there was one (status 0). */
  failed(peer: RemotePeer, status: number, reason: string): void;
}

interface End {
  readonly reason: CloseReason;
  readonly detail: string;
}

/** One client's HTTP/2 connection, and its requests and tunnels. */
export class Http2Connection implements Http2TunnelOwner {
  readonly #session: ServerHttp2Session;
  readonly #peer: RemotePeer;
  readonly #host: Http2ConnectionHost;
  readonly #tunnels = new Set<Http2Request>();
  /** Waiting to hear why the connection has ended. */
  readonly #waiting: ((reason: CloseReason, detail: string) => void)[] = [];
  #end: End | undefined;
  /** Of requests, until they are closed. */
  #streams = 0;
  #closed = false;
  #draining = false;
  #windowsOpen = false;
  #idleSinceMs = performance.now();
  #heardMs = performance.now();
  #pingDueMs = 0;

  constructor(session: ServerHttp2Session, peer: RemotePeer, host: Http2ConnectionHost) {
    this.#session = session;
    this.#peer = peer;
    this.#host = host;
    session.on('stream', (stream, _headers, _flags, rawHeaders) => this.#receiveRequest(stream, rawHeaders));
    session.on('error', (error) => this.#broken(error));
    session.once('close', () => this.#explainAll());
  }

  // --- from the server

  /** Ends what took too long, and asks whether the client lives. */
  sweep(nowMs: number): void {
    if (this.#session.destroyed) return;
    if (this.#tunnels.size === 0) {
      if (nowMs - this.#idleSinceMs <= IDLE_CONNECTION_MS) return;
      this.#host.tunnels.limits.count('tunnel_time');
      this.#session.destroy();
      return;
    }
    this.#idleSinceMs = nowMs;
    if (nowMs - this.#heardMs > SILENCE_TIMEOUT_MS) {
      this.#end = { reason: 'idle', detail: `no answer to a ping for ${SILENCE_TIMEOUT_MS / 1_000} s` };
      this.#session.destroy();
    } else if (nowMs >= this.#pingDueMs) {
      this.#pingDueMs = nowMs + PING_INTERVAL_MS;
      this.#session.ping((error) => {
        if (error === null) this.#heardMs = performance.now();
      });
    }
  }

  /** No new requests: GOAWAY. The connection closes when its streams have ended. */
  drain(): void {
    this.#draining = true;
    for (const tunnel of this.#tunnels) tunnel.refuse(SERVICE_UNAVAILABLE);
    this.#session.close();
  }

  close(): void {
    this.#session.destroy();
  }

  // --- Http2TunnelOwner

  tunnelAccepted(): void {
    if (this.#windowsOpen) return;
    this.#windowsOpen = true;
    this.#session.settings({ initialWindowSize: STREAM_WINDOW_BYTES });
    this.#session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
  }

  streamClosed(request: Http2Request): void {
    this.#tunnels.delete(request);
  }

  explain(resetCode: number, tell: (reason: CloseReason, detail: string) => void): void {
    if (this.#closed) tell(...this.#why());
    else if (this.#session.destroyed) this.#waiting.push(tell);
    else tell('client', `reset, code 0x${resetCode.toString(16)}`);
  }

  // --- from HTTP/2

  #receiveRequest(stream: ServerHttp2Stream, rawHeaders: readonly string[]): void {
    // Why a stream has ended is asked when it has.
    stream.on('error', () => {});
    const { sessions, tunnels, authorities } = this.#host;
    if (this.#streams >= MAX_STREAMS) {
      tunnels.limits.count('streams');
      stream.close(constants.NGHTTP2_REFUSED_STREAM);
      return;
    }
    this.#streams++;
    stream.once('close', () => this.#streams--);
    const lines = fieldLines(rawHeaders);
    if (fieldSectionSize(lines) > MAX_FIELD_SECTION_BYTES) {
      tunnels.limits.count('request_head');
      this.#refuse(stream, HEAD_TOO_LARGE, 'the request head is too large');
      return;
    }
    let request: RequestFields;
    try {
      request = parseRequestFields(lines);
    } catch (error) {
      if (!(error instanceof Http3StreamError)) throw error;
      this.#host.failed(this.#peer, 0, error.message);
      stream.close(http2ErrorCode(error.wireCode));
      return;
    }
    const decision = decideTunnelRequest(request, authorities, sessions && SESSIONS);
    if (decision.kind === 'rejected') {
      if (decision.resetCode === undefined) this.#refuse(stream, decision.status, decision.reason);
      else {
        this.#host.failed(this.#peer, decision.status, decision.reason);
        stream.close(http2ErrorCode(decision.resetCode));
      }
    } else if (this.#draining) {
      this.#refuse(stream, SERVICE_UNAVAILABLE, 'the node is draining');
    } else {
      const context = [stream, decision, this.#peer, tunnels, this] as const;
      this.#tunnels.add(sessions === undefined ? new Http2Tunnel(...context) : new SessionTunnel(sessions, ...context));
    }
  }

  #refuse(stream: ServerHttp2Stream, status: number, reason: string): void {
    this.#host.failed(this.#peer, status, reason);
    respondWhole(stream, status, refusalFields(status));
  }

  /** An error of HTTP/2, or of the connection below it. */
  #broken(error: NodeJS.ErrnoException): void {
    if (error.errno === TOO_MANY_CONTINUATIONS) this.#host.tunnels.limits.count('request_head');
    const isProtocol = errorCode(error)?.startsWith('ERR_HTTP2') === true;
    if (isProtocol && this.#tunnels.size === 0) this.#host.failed(this.#peer, 0, error.message);
    this.#end ??= { reason: isProtocol ? 'error' : 'client', detail: error.message };
  }

  #explainAll(): void {
    this.#closed = true;
    for (const tell of this.#waiting) tell(...this.#why());
  }

  #why(): [CloseReason, string] {
    const { reason, detail } = this.#end ?? { reason: 'client', detail: 'the connection closed' };
    return [reason, detail];
  }
}

function fieldLines(rawHeaders: readonly string[]): FieldLine[] {
  const lines: FieldLine[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) lines.push([rawHeaders[i] ?? '', rawHeaders[i + 1] ?? '']);
  return lines;
}
