import { constants, type ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import { awaitChannelEnd } from '../http2/await-channel-end.ts';
import { STREAM_END_TIMEOUT_MS } from '../http2/http2-limits.ts';
import type { Http2Request, Http2TunnelOwner } from '../http2/http2-tunnel.ts';
import { respondWhole } from '../http2/respond.ts';
import { H3_INTERNAL_ERROR, Http3StreamError } from '../http3/error-codes.ts';
import type { AcceptedRequest } from '../masque/connect-ip-request.ts';
import { type ProxyError, refusalFields } from '../masque/connect-ip-response.ts';
import type { RemotePeer, WebTunnel, WebTunnels } from '../web-thread/web-tunnels.ts';
import type { SessionCapsules } from './session-capsules.ts';
import type { SessionOpener } from './session-opener.ts';

/** A request for a WebTransport session over HTTP/2, and its tunnel: the session's capsules are those of a byte channel to the packet thread. */
export class SessionTunnel implements WebTunnel, Http2Request {
  readonly transport = 'webtransport';
  readonly #opener: SessionOpener;
  readonly #stream: ServerHttp2Stream;
  readonly #tunnels: WebTunnels;
  readonly #owner: Http2TunnelOwner;
  readonly #requestId: number;
  #connectionId = '';
  #socket: Socket | undefined;
  #capsules: SessionCapsules | undefined;

  constructor(
    opener: SessionOpener,
    stream: ServerHttp2Stream,
    request: AcceptedRequest,
    peer: RemotePeer,
    tunnels: WebTunnels,
    owner: Http2TunnelOwner,
  ) {
    this.#opener = opener;
    this.#stream = stream;
    this.#tunnels = tunnels;
    this.#owner = owner;
    this.#requestId = tunnels.request(this, request, peer);
    stream.once('close', () => this.#streamClosed());
  }

  accept(connectionId: string, socket: Socket): void {
    this.#connectionId = connectionId;
    this.#socket = socket;
    // What goes wrong with it shows by its end.
    socket.on('error', () => {});
    socket.once('close', () => this.#channelClosed());
    this.#owner.tunnelAccepted();
    this.#opener.open(this.#stream).then(
      (capsules) => this.#join(capsules, socket),
      () => this.#stream.close(constants.NGHTTP2_INTERNAL_ERROR),
    );
  }

  refuse(status: number): void {
    if (this.#socket === undefined) this.reject(status);
  }

  reject(status: number, proxyError?: ProxyError): void {
    respondWhole(this.#stream, status, refusalFields(status, proxyError));
  }

  abort(errorCode: number): void {
    this.#socket?.destroy();
    this.#capsules?.destroy(new Http3StreamError(errorCode, ''));
  }

  #join(capsules: SessionCapsules, socket: Socket): void {
    this.#capsules = capsules;
    capsules.on('error', (error) => this.#tunnels.lost(this.#connectionId, 'error', error.message));
    capsules.once('close', () => this.#sessionClosed());
    capsules.once('end', () => {
      if (capsules.clientEnded) socket.end();
    });
    socket.pipe(capsules);
    capsules.pipe(socket, { end: false });
    // It was closed while the session was being opened.
    if (socket.destroyed) this.#channelClosed();
  }

  /** We said our last, which the client answers by ending its side. */
  #sessionClosed(): void {
    const stream = this.#stream;
    if (this.#socket?.destroyed === false) awaitChannelEnd(this.#socket);
    if (stream.closed) return;
    const timer = setTimeout(() => stream.close(constants.NGHTTP2_NO_ERROR), STREAM_END_TIMEOUT_MS);
    stream.once('close', () => clearTimeout(timer));
  }

  /** Both threads have closed their ends, or the packet thread is gone. */
  #channelClosed(): void {
    this.#tunnels.forget(this.#connectionId);
    const capsules = this.#capsules;
    if (capsules?.writableEnded === false) capsules.destroy(new Http3StreamError(H3_INTERNAL_ERROR, ''));
  }

  #streamClosed(): void {
    this.#owner.streamClosed(this);
    const socket = this.#socket;
    if (socket === undefined) this.#tunnels.abandon(this.#requestId);
    else if (socket.destroyed || socket.readableEnded) socket.destroy();
    else {
      if (this.#capsules?.clientEnded !== true) {
        this.#owner.explain(this.#stream.rstCode, (reason, detail) =>
          this.#tunnels.lost(this.#connectionId, reason, detail),
        );
      }
      awaitChannelEnd(socket);
    }
  }
}
