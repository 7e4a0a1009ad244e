import type { CloseReason } from '../../shared/events/node-events.ts';
import { parsePrefix } from '../../shared/ip/prefix.ts';
import { DATAGRAM_ERROR, datagramPayloadOffset } from '../http3/datagram.ts';
import {
  H3_NO_ERROR,
  H3_REQUEST_CANCELLED,
  H3_REQUEST_INCOMPLETE,
  type Http3StreamError,
} from '../http3/error-codes.ts';
import type { RequestFields } from '../http3/field-section.ts';
import { Http3Connection } from '../http3/http3-connection.ts';
import type { Http3Events } from '../http3/http3-endpoint.ts';
import { isExtensionHeader } from '../ip/ipv6-header.ts';
import { encodeAddressAssign, refusedAddress } from '../masque/address-assign.ts';
import type { RequestedAddress } from '../masque/address-request.ts';
import { CapsuleReader } from '../masque/capsule-reader.ts';
import { type AcceptedRequest, decideConnectIp } from '../masque/connect-ip-request.ts';
import {
  type ProxyError,
  refusalFields,
  TUNNEL_RESPONSE_FIELDS,
  TUNNEL_STATUS,
} from '../masque/connect-ip-response.ts';
import { DATAGRAM_OF_UNKNOWN_CONTEXT, ipPacketOffset } from '../masque/ip-datagram.ts';
import { compilePathTemplate, DEFAULT_PATH_TEMPLATE } from '../masque/path-template.ts';
import { encodeRouteAdvertisement } from '../masque/route-advertisement.ts';
import { MAX_BIDI_STREAMS } from '../quic/core-handle.ts';
import type { QuicEndpoint } from '../quic/quic-endpoint.ts';
import type { SocketAddress } from '../udp/socket-address.ts';
import type { DropCounters } from './drop-counters.ts';
import { http3OverQuic } from './http3-over-quic.ts';
import { TunnelScope } from './scope.ts';
import { sendPacket } from './send-packet.ts';
import type { ServerThreadCommand, ServerThreadReport } from './tunnel-messages.ts';
import { TunnelSession } from './tunnel-session.ts';

/** What a connection asks of the server that it belongs to. */
export interface TunnelHost {
  readonly drops: DropCounters;
  readonly advertiseRoutes: readonly string[];
  readonly draining: boolean;
  /** Asks who may connect; the answer comes as `accept` or `reject` with the number that is returned. */
  requestTunnel(connection: ServerConnection, request: AcceptedRequest): number;
  requestAbandoned(requestId: number): void;
  requestFailed(report: Extract<ServerThreadReport, { type: 'failed' }>): void;
  tunnelOpened(connection: ServerConnection, session: TunnelSession, connectionId: string): void;
  tunnelClosed(session: TunnelSession, report: Extract<ServerThreadReport, { type: 'closed' }>): void;
  forwardUp(tunnel: OpenTunnel, bytes: Uint8Array, offset: number, length: number): void;
}

/** A tunnel and the connection that carries it. */
export interface OpenTunnel {
  readonly connection: ServerConnection;
  readonly session: TunnelSession;
}

/** A connection that has no tunnel after this long is closed, a request that is not whole is aborted. */
const REQUEST_TIMEOUT_MS = 10_000;
const SERVICE = { pathTemplate: compilePathTemplate(DEFAULT_PATH_TEMPLATE) };
const SERVICE_UNAVAILABLE = 503;
const NOT_IMPLEMENTED = 501;
const IDLE_REASON = 'idle timeout';

interface Tunnel extends OpenTunnel {
  readonly capsules: CapsuleReader;
  /** What the client wished for before it was let in: capsules may come ahead of the answer (RFC 9297 3.2). */
  readonly wishes: RequestedAddress[];
}

/** One client's QUIC connection at the node: HTTP/3 on it, and its tunnels. */
export class ServerConnection implements Http3Events {
  readonly id: number;
  readonly peer: SocketAddress;
  readonly #quic: QuicEndpoint;
  readonly #host: TunnelHost;
  readonly #http3: Http3Connection;
  readonly #sessions = new Map<number, Tunnel>();
  /** Request streams whose head is not whole yet, by the time at which they must be. */
  readonly #unfinished = new Map<number, number>();
  #idleSinceMs = performance.now();
  #started = false;

  constructor(id: number, peer: SocketAddress, quic: QuicEndpoint, host: TunnelHost) {
    this.id = id;
    this.peer = peer;
    this.#quic = quic;
    this.#host = host;
    const transport = http3OverQuic(quic, id, () => {
      throw new Error('a server opens no request streams');
    });
    this.#http3 = new Http3Connection('server', transport, this, { initialStreamLimit: MAX_BIDI_STREAMS });
  }

  // --- from QUIC

  /** The handshake is complete. */
  start(): void {
    this.#started = true;
    this.#http3.start();
  }

  receiveStream(streamId: number, bytes: Uint8Array, fin: boolean): void {
    this.#http3.receiveStream(streamId, bytes, fin);
  }

  streamReset(streamId: number, errorCode: number): void {
    this.#http3.streamReset(streamId, errorCode);
  }

  receiveDatagram(bytes: Uint8Array, offset: number, length: number): void {
    const end = offset + length;
    const streamId = this.#http3.datagramStream(bytes, offset, end);
    if (streamId < 0) this.#host.drops.count(streamId === DATAGRAM_ERROR ? 'malformed' : 'no_tunnel');
    else this.#receivePayload(streamId, bytes, datagramPayloadOffset(bytes, offset), end);
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
    const session = this.#requestedSession(command.requestId);
    if (session === undefined) return false;
    const { connectionId, clientId, addresses, scope: accepted } = command;
    const scope = new TunnelScope({
      targets: accepted.targets?.map(parsePrefix) ?? null,
      protocol: accepted.protocol,
      advertised: this.#host.advertiseRoutes.map(parsePrefix),
    });
    session.accept({ kind: 'accept', connectionId, clientId, nowMs: performance.now() }, addresses, scope);
    const { streamId } = session;
    if (!this.#http3.sendResponse(streamId, TUNNEL_STATUS, TUNNEL_RESPONSE_FIELDS, false)) return false;
    this.#host.tunnelOpened(this, session, connectionId);
    this.#sendAssignments(session, this.#sessions.get(streamId)?.wishes ?? []);
    const families = new Set(session.assignedPrefixes.map(({ address }) => address.family));
    this.#http3.sendData(streamId, encodeRouteAdvertisement(scope.routes(families)));
    return true;
  }

  reject(requestId: number, status: number, proxyError?: ProxyError): void {
    const session = this.#requestedSession(requestId);
    if (session === undefined) return;
    session.end('error', `status ${status}`);
    this.#sessions.delete(session.streamId);
    this.#http3.sendResponse(session.streamId, status, refusalFields(status, proxyError), true);
  }

  /** Ends one tunnel from our side and leaves the connection to the client. */
  endTunnel(session: TunnelSession, reason: CloseReason, detail: string): void {
    this.#end(session, reason, detail);
    if (reason === 'drained') this.#http3.endStream(session.streamId);
    else this.#http3.abortStream(session.streamId, H3_REQUEST_CANCELLED);
  }

  /** Says goodbye: no new requests, and the tunnels that are open end. */
  drain(): void {
    if (!this.#started) {
      this.close();
      return;
    }
    this.#http3.announceShutdown();
    this.#http3.refuseNewRequests();
    for (const { session } of [...this.#sessions.values()]) {
      const { state } = session;
      if (state.kind === 'requested') {
        this.#host.requestAbandoned(state.requestId);
        this.reject(state.requestId, SERVICE_UNAVAILABLE);
      } else {
        this.endTunnel(session, 'drained', 'the node stops');
      }
    }
  }

  close(): void {
    this.#http3.close(H3_NO_ERROR, 'the node stops');
  }

  /** Makes the client answer while it has a tunnel, so that neither side's idle timer runs out. */
  keepAlive(): void {
    if (this.#sessions.size > 0) this.#quic.ping(this.id);
  }

  /** Smoothed RTT of the QUIC path, milliseconds. */
  rttMs(): number | null {
    return this.#quic.pathStatistics(this.id)?.rttMs ?? null;
  }

  /** Ends what took too long. */
  sweep(nowMs: number): void {
    for (const [streamId, dueMs] of this.#unfinished) {
      if (nowMs < dueMs) continue;
      this.#unfinished.delete(streamId);
      this.#failed(0, 'the request was not whole in time');
      this.#http3.abortStream(streamId, H3_REQUEST_INCOMPLETE);
    }
    if (this.#sessions.size > 0) this.#idleSinceMs = nowMs;
    if (nowMs - this.#idleSinceMs > REQUEST_TIMEOUT_MS) this.#http3.close(H3_NO_ERROR, 'no tunnel');
  }

  /** False when the client's queue is full. */
  sendPacket(session: TunnelSession, bytes: Uint8Array, offset: number, length: number): boolean {
    return sendPacket(this.#quic, this.#http3, session, bytes, offset, length);
  }

  // --- from HTTP/3

  onSettings(): void {}
  onResponse(): void {}
  onGoaway(): void {}

  onRequestStreamOpened(streamId: number): void {
    this.#unfinished.set(streamId, performance.now() + REQUEST_TIMEOUT_MS);
  }

  onRequestRefused(streamId: number, status: number): void {
    this.#unfinished.delete(streamId);
    this.#failed(status, 'the request head is too large');
  }

  onRequest(streamId: number, request: RequestFields): void {
    this.#unfinished.delete(streamId);
    const decision = decideConnectIp(request, SERVICE);
    if (decision.kind === 'rejected') {
      this.#failed(decision.status, decision.reason);
      if (decision.resetCode !== undefined) this.#http3.abortStream(streamId, decision.resetCode);
      else this.#http3.sendResponse(streamId, decision.status, refusalFields(decision.status), true);
      return;
    }
    if (this.#host.draining) {
      this.#refuse(streamId, SERVICE_UNAVAILABLE, 'the node is draining');
      return;
    }
    // No packet is "of" an extension header here: the chain is walked to what it ends with (RFC 9484 4.8 leaves that to us).
    if (decision.protocol !== 'any' && isExtensionHeader(decision.protocol)) {
      this.#refuse(streamId, NOT_IMPLEMENTED, 'scoped to an IPv6 extension header');
      return;
    }
    const requestId = this.#host.requestTunnel(this, decision);
    const session = new TunnelSession(this.id, streamId, requestId);
    const wishes: RequestedAddress[] = [];
    const capsules = new CapsuleReader({
      onAddressAssign: () => {},
      onRouteAdvertisement: () => {},
      onAddressRequest: (requested) => {
        if (session.state.kind === 'open') this.#sendAssignments(session, requested);
        else wishes.push(...requested);
      },
      onDatagram: (payload) => this.#receivePayload(streamId, payload, 0, payload.length),
    });
    this.#sessions.set(streamId, { connection: this, session, capsules, wishes });
  }

  onData(streamId: number, bytes: Uint8Array): void {
    this.#sessions.get(streamId)?.capsules.push(bytes);
  }

  onStreamEnd(streamId: number): void {
    const tunnel = this.#sessions.get(streamId);
    tunnel?.capsules.end();
    if (tunnel === undefined) return;
    const answered = tunnel.session.state.kind === 'open';
    this.#end(tunnel.session, 'client', 'end of stream');
    if (answered) this.#http3.endStream(streamId);
    else this.#http3.abortStream(streamId, H3_REQUEST_CANCELLED);
  }

  onStreamReset(streamId: number, errorCode: number, error?: Http3StreamError): void {
    if (this.#unfinished.delete(streamId) && error !== undefined) this.#failed(0, error.message);
    const tunnel = this.#sessions.get(streamId);
    if (tunnel === undefined) return;
    tunnel.capsules.stop();
    if (error === undefined) this.#end(tunnel.session, 'client', `reset, code 0x${errorCode.toString(16)}`);
    else this.#end(tunnel.session, 'error', error.message);
  }

  onConnectionError(error: { message: string }): void {
    if (this.#sessions.size === 0) this.#failed(0, error.message);
    this.#endAll('error', error.message);
  }

  #receivePayload(streamId: number, bytes: Uint8Array, offset: number, end: number): void {
    const tunnel = this.#sessions.get(streamId);
    if (tunnel?.session.state.kind !== 'open') {
      this.#host.drops.count('no_tunnel');
      return;
    }
    const packet = ipPacketOffset(bytes, offset, end);
    if (packet >= 0) this.#host.forwardUp(tunnel, bytes, packet, end - packet);
    else this.#host.drops.count(packet === DATAGRAM_OF_UNKNOWN_CONTEXT ? 'unknown_context' : 'malformed');
  }

  // All that the tunnel has, each address as the answer to a wish for its family, or unasked; other wishes are refused (RFC 9484 4.7.2).
  #sendAssignments(session: TunnelSession, requested: readonly RequestedAddress[]): void {
    const held = session.assignedPrefixes;
    const answers = requested.map(({ requestId, prefix }) => {
      const { family } = prefix.address;
      const match = held.find((own) => own.address.family === family);
      return match === undefined ? refusedAddress(requestId, family) : { requestId, prefix: match };
    });
    const unasked = held.filter((own) => !answers.some(({ prefix }) => prefix === own));
    const all = [...answers, ...unasked.map((prefix) => ({ requestId: 0n, prefix }))];
    this.#http3.sendData(session.streamId, encodeAddressAssign(all));
  }

  #requestedSession(requestId: number): TunnelSession | undefined {
    for (const { session } of this.#sessions.values()) {
      if (session.state.kind === 'requested' && session.state.requestId === requestId) return session;
    }
    return undefined;
  }

  #refuse(streamId: number, status: number, reason: string): void {
    this.#failed(status, reason);
    this.#http3.sendResponse(streamId, status, refusalFields(status), true);
  }

  #endAll(reason: CloseReason, detail: string): void {
    for (const { session } of [...this.#sessions.values()]) this.#end(session, reason, detail);
  }

  #end(session: TunnelSession, reason: CloseReason, detail: string): void {
    this.#sessions.delete(session.streamId);
    const before = session.end(reason, detail);
    if (before.kind === 'requested') this.#host.requestAbandoned(before.requestId);
    if (before.kind !== 'open') return;
    const { connectionId, clientId, openedMs } = before;
    const durationMs = Math.round(performance.now() - openedMs);
    const totals = session.counters.totals();
    this.#host.tunnelClosed(session, { type: 'closed', connectionId, clientId, reason, detail, durationMs, totals });
  }

  #failed(status: number, reason: string): void {
    this.#host.requestFailed({
      type: 'failed',
      remoteAddress: this.peer.host,
      status,
      reason,
      errorType: status === 401 || status === 403 ? 'auth' : 'connection',
    });
  }
}
