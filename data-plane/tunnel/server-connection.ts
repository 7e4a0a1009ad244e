import type { CloseReason } from '../../shared/events/node-events.ts';
import { DATAGRAM_ERROR, datagramPayloadOffset } from '../http3/datagram.ts';
import {
  H3_NO_ERROR,
  H3_REQUEST_CANCELLED,
  H3_REQUEST_INCOMPLETE,
  type Http3ConnectionError,
  type Http3StreamError,
} from '../http3/error-codes.ts';
import type { RequestFields } from '../http3/field-section.ts';
import { Http3Connection } from '../http3/http3-connection.ts';
import type { Http3Events } from '../http3/http3-endpoint.ts';
import type { Limit } from '../limits.ts';
import type { AcceptedRequest } from '../masque/connect-ip-request.ts';
import {
  type ProxyError,
  refusalFields,
  TUNNEL_RESPONSE_FIELDS,
  TUNNEL_STATUS,
} from '../masque/connect-ip-response.ts';
import { MAX_BIDI_STREAMS } from '../quic/core-handle.ts';
import type { QuicEndpoint } from '../quic/quic-endpoint.ts';
import type { SocketAddress } from '../udp/socket-address.ts';
import { connectionFailure } from './connection-failure.ts';
import { ConnectionShutdown } from './connection-shutdown.ts';
import { decideTunnelRequest } from './decide-tunnel-request.ts';
import { http3OverQuic } from './http3-over-quic.ts';
import { Http3Session } from './http3-session.ts';
import { Http3SessionTransport } from './http3-session-transport.ts';
import { Http3Sessions } from './http3-sessions.ts';
import { Http3TunnelTransport } from './http3-tunnel-transport.ts';
import type { ServerConnectionHost } from './server-connection-host.ts';
import { Tunnel } from './tunnel.ts';
import type { ServerThreadCommand } from './tunnel-messages.ts';

/** A handshake that is not complete after this long is given up (ours): time for two retransmissions. */
const HANDSHAKE_TIMEOUT_MS = 5_000;
/** A connection that has no tunnel after this long is closed, a request that is not whole is aborted. */
export const REQUEST_TIMEOUT_MS = 10_000;
/** Requests that are open at once on one connection (ours); QUIC lets some more streams come, so that more can be refused. */
const MAX_REQUEST_STREAMS = 64;
const SERVICE_UNAVAILABLE = 503;
const IDLE_REASON = 'idle timeout';
const UPGRADES = ['connect-ip', 'webtransport'] as const;
/** A browser opens a connection for each (ours). */
const MAX_SESSIONS = 1;
/** The version of WebTransport that the answer to its request names (draft-ietf-webtrans-http3-02 3.3). */
const SESSION_RESPONSE_FIELDS = [...TUNNEL_RESPONSE_FIELDS, ['sec-webtransport-http3-draft', 'draft02']] as const;
/** A stream that belongs to no session (draft-ietf-webtrans-http3 4.6). */
const WT_BUFFERED_STREAM_REJECTED = 0x3994bd84;

/** One client's QUIC connection at the node: HTTP/3 on it, and its tunnels. */
export class ServerConnection implements Http3Events {
  readonly id: number;
  readonly peer: SocketAddress;
  readonly #quic: QuicEndpoint;
  readonly #host: ServerConnectionHost;
  readonly #http3: Http3Connection;
  /** By request stream. */
  readonly #tunnels = new Map<number, Tunnel>();
  readonly #sessions = new Http3Sessions();
  /** Request streams that wait for an answer, by the number of the request. */
  readonly #requests = new Map<number, number>();
  /** The request that came with the bytes that are being handled. */
  #unasked: { readonly streamId: number; readonly request: AcceptedRequest } | undefined;
  /** Request streams whose head is not whole yet, by the time at which they must be. */
  readonly #unfinished = new Map<number, number>();
  #idleSinceMs = performance.now();
  #started = false;
  readonly #shutdown: ConnectionShutdown;

  constructor(id: number, peer: SocketAddress, quic: QuicEndpoint, host: ServerConnectionHost) {
    this.id = id;
    this.peer = peer;
    this.#quic = quic;
    this.#host = host;
    const transport = http3OverQuic(quic, id, () => {
      throw new Error('a server opens no request streams');
    });
    this.#http3 = new Http3Connection('server', transport, this, {
      initialStreamLimit: MAX_BIDI_STREAMS,
      maxSessions: MAX_SESSIONS,
      maxRequestStreams: MAX_REQUEST_STREAMS,
    });
    this.#shutdown = new ConnectionShutdown(this.#http3);
  }

  // --- from QUIC

  /** The handshake is complete. */
  start(): void {
    this.#started = true;
    this.#http3.start();
    if (this.#host.draining) this.announceDrain();
  }

  receiveStream(streamId: number, bytes: Uint8Array, fin: boolean): void {
    this.#http3.receiveStream(streamId, bytes, fin);
    this.#askForTunnel();
  }

  streamReset(streamId: number, errorCode: number): void {
    this.#http3.streamReset(streamId, errorCode);
  }

  receiveDatagram(bytes: Uint8Array, offset: number, length: number): void {
    const end = offset + length;
    const streamId = this.#http3.datagramStream(bytes, offset, end);
    const tunnel = this.#tunnels.get(streamId);
    if (tunnel !== undefined) tunnel.receivePayload(bytes, datagramPayloadOffset(bytes, offset), end);
    else this.#host.drops.count(streamId === DATAGRAM_ERROR ? 'malformed' : 'no_tunnel');
  }

  /** The QUIC connection is gone. */
  closed(errorCode: number, reason: string): void {
    const detail = reason === '' ? `code 0x${errorCode.toString(16)}` : `${reason}, code 0x${errorCode.toString(16)}`;
    this.#endAll(reason === IDLE_REASON ? 'idle' : 'client', detail);
  }

  /** The core that carried the connection aborted. */
  lost(detail: string): void {
    this.#endAll('error', detail);
  }

  // --- from the server

  /** False when the request is not there any more. */
  accept(command: Extract<ServerThreadCommand, { type: 'accept' }>): boolean {
    const streamId = this.#takeRequest(command.requestId);
    if (streamId === undefined) return false;
    const fields = this.#sessions.get(streamId) ? SESSION_RESPONSE_FIELDS : TUNNEL_RESPONSE_FIELDS;
    if (!this.#http3.sendResponse(streamId, TUNNEL_STATUS, fields, false)) return false;
    this.#tunnels.get(streamId)?.open(command);
    return true;
  }

  reject(requestId: number, status: number, proxyError?: ProxyError): void {
    const streamId = this.#takeRequest(requestId);
    if (streamId === undefined) return;
    this.#tunnels.get(streamId)?.end('error', `status ${status}`);
    this.#http3.sendResponse(streamId, status, refusalFields(status, proxyError), true);
  }

  /** Says that the connection will go away (RFC 9114 5.2). What is open stays, new requests are for the host to refuse. */
  announceDrain(): void {
    if (this.#started) this.#shutdown.announce();
  }

  /** Says goodbye: no new requests, and the tunnels that are open end. */
  drain(why: string): void {
    if (!this.#started) {
      this.close();
      return;
    }
    this.#shutdown.announce();
    this.#shutdown.refuseNewRequests();
    for (const requestId of [...this.#requests.keys()]) {
      this.#host.requestAbandoned(requestId);
      this.reject(requestId, SERVICE_UNAVAILABLE);
    }
    for (const tunnel of [...this.#tunnels.values()]) tunnel.close('drained', why);
  }

  close(): void {
    this.#http3.close(H3_NO_ERROR, 'the node stops');
  }

  /** Ends what took too long. */
  sweep(nowMs: number): void {
    this.#shutdown.sweep(nowMs);
    for (const [streamId, dueMs] of this.#unfinished) {
      if (nowMs < dueMs) continue;
      this.#unfinished.delete(streamId);
      this.#host.limits.count('request_time');
      this.#failed(0, 'the request was not whole in time');
      this.#http3.abortStream(streamId, H3_REQUEST_INCOMPLETE);
    }
    for (let late = this.#sessions.sweep(nowMs); late > 0; late--) this.#host.limits.count('request_time');
    if (this.#tunnels.size > 0) this.#idleSinceMs = nowMs;
    const timeoutMs = this.#started ? REQUEST_TIMEOUT_MS : HANDSHAKE_TIMEOUT_MS;
    if (nowMs - this.#idleSinceMs <= timeoutMs || this.#http3.isClosed) return;
    this.#host.limits.count(this.#started ? 'tunnel_time' : 'handshake_time');
    this.#http3.close(H3_NO_ERROR, 'no tunnel');
  }

  // --- from HTTP/3

  onSettings(): void {}
  onResponse(): void {}
  onGoaway(): void {}

  onRequestStreamOpened(streamId: number): void {
    this.#unfinished.set(streamId, performance.now() + REQUEST_TIMEOUT_MS);
  }

  onLimitExceeded(limit: Limit): void {
    this.#host.limits.count(limit);
  }

  onRequestRefused(streamId: number, status: number): void {
    this.#unfinished.delete(streamId);
    this.#host.limits.count('request_head');
    this.#failed(status, 'the request head is too large');
  }

  onRequest(streamId: number, request: RequestFields): void {
    this.#unfinished.delete(streamId);
    const decision = decideTunnelRequest(request, this.#host.authorities, UPGRADES);
    if (decision.kind === 'rejected') {
      this.#failed(decision.status, decision.reason);
      if (decision.resetCode !== undefined) this.#http3.abortStream(streamId, decision.resetCode);
      else this.#http3.sendResponse(streamId, decision.status, refusalFields(decision.status), true);
      return;
    }
    if (this.#host.draining) {
      this.#failed(SERVICE_UNAVAILABLE, 'the node is draining');
      this.#http3.sendResponse(streamId, SERVICE_UNAVAILABLE, refusalFields(SERVICE_UNAVAILABLE), true);
      return;
    }
    const isSession = request.protocol === 'webtransport';
    const path = { connection: this.id, streamId };
    const transport = new (isSession ? Http3SessionTransport : Http3TunnelTransport)(this.#quic, this.#http3, path);
    const tunnel = new Tunnel(this.#host, transport, () => this.#forget(streamId));
    this.#tunnels.set(streamId, tunnel);
    if (transport instanceof Http3SessionTransport) {
      this.#sessions.add(new Http3Session(streamId, tunnel, transport));
    }
    this.#unasked = { streamId, request: decision };
  }

  // After all that came with the request, for that may be wishes.
  #askForTunnel(): void {
    const unasked = this.#unasked;
    this.#unasked = undefined;
    const tunnel = unasked && this.#tunnels.get(unasked.streamId);
    if (unasked === undefined || tunnel === undefined) return;
    const { streamId, request } = unasked;
    const transport = this.#sessions.get(streamId) ? 'webtransport' : 'http3';
    const requestId = this.#host.requestTunnel(this, request, transport, tunnel.wishedAddresses);
    this.#requests.set(requestId, streamId);
  }

  onSessionStream(streamId: number, sessionId: number): void {
    this.#unfinished.delete(streamId);
    if (this.#sessions.streamOpened(streamId, sessionId)) return;
    this.#http3.abortStream(streamId, WT_BUFFERED_STREAM_REJECTED);
  }

  onData(streamId: number, bytes: Uint8Array): void {
    const session = this.#sessions.get(streamId);
    if (session === undefined) this.#tunnels.get(streamId)?.receiveContent(bytes);
    else session.receive(streamId, bytes);
  }

  onStreamEnd(streamId: number): void {
    const session = this.#sessions.get(streamId);
    if (session !== undefined) {
      session.streamEnded(streamId);
      return;
    }
    const tunnel = this.#tunnels.get(streamId);
    if (tunnel === undefined) return;
    const answered = tunnel.session.state.kind === 'open';
    tunnel.receiveEnd();
    if (answered) this.#http3.endStream(streamId);
    else this.#http3.abortStream(streamId, H3_REQUEST_CANCELLED);
  }

  onStreamReset(streamId: number, errorCode: number, error?: Http3StreamError): void {
    this.#host.limits.count(error?.limit);
    if (this.#unfinished.delete(streamId) && error !== undefined) this.#failed(0, error.message);
    const session = this.#sessions.get(streamId);
    if (session !== undefined) {
      session.streamReset(errorCode, error);
      return;
    }
    const tunnel = this.#tunnels.get(streamId);
    if (error === undefined) tunnel?.end('client', `reset, code 0x${errorCode.toString(16)}`);
    else tunnel?.end('error', error.message);
  }

  onConnectionError(error: Http3ConnectionError): void {
    this.#host.limits.count(error.limit);
    if (this.#tunnels.size === 0) this.#failed(0, error.message);
    this.#endAll('error', error.message);
  }

  #takeRequest(requestId: number): number | undefined {
    const streamId = this.#requests.get(requestId);
    this.#requests.delete(requestId);
    return streamId;
  }

  #forget(streamId: number): void {
    this.#tunnels.delete(streamId);
    this.#sessions.forget(streamId);
    for (const [requestId, waiting] of this.#requests) {
      if (waiting !== streamId) continue;
      this.#requests.delete(requestId);
      this.#host.requestAbandoned(requestId);
    }
  }

  #endAll(reason: CloseReason, detail: string): void {
    for (const tunnel of [...this.#tunnels.values()]) tunnel.end(reason, detail);
  }

  #failed(status: number, reason: string): void {
    this.#host.requestFailed(connectionFailure(this.peer.host, status, reason));
  }
}
