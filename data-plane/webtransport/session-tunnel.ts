import { constants, type ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import { STREAM_END_TIMEOUT_MS } from '../http2/http2-limits.ts';
import type { Http2Request, Http2TunnelOwner } from '../http2/http2-tunnel.ts';
import { closeLater, respondWhole } from '../http2/respond.ts';
import type { AcceptedRequest } from '../masque/connect-ip-request.ts';
import { type ProxyError, refusalFields } from '../masque/connect-ip-response.ts';
import type { RemotePeer, WebTunnel, WebTunnels } from '../web-thread/web-tunnels.ts';
import { SessionChannel } from './session-channel.ts';
import type { SessionOpener } from './session-opener.ts';

/** A request for a WebTransport session over HTTP/2, and its tunnel: the session's capsules are those of a byte channel to the packet thread. */
export class SessionTunnel implements WebTunnel, Http2Request {
  readonly transport = 'webtransport';
  readonly #opener: SessionOpener;
  readonly #stream: ServerHttp2Stream;
  readonly #tunnels: WebTunnels;
  readonly #owner: Http2TunnelOwner;
  readonly #requestId: number;
  #channel: SessionChannel | undefined;

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
    const channel = new SessionChannel(connectionId, socket, this.#tunnels);
    this.#channel = channel;
    this.#owner.tunnelAccepted();
    this.#opener.open(this.#stream).then(
      (capsules) => {
        channel.join(capsules);
        capsules.once('close', () => this.#sessionClosed());
      },
      () => this.#stream.close(constants.NGHTTP2_INTERNAL_ERROR),
    );
  }

  refuse(status: number): void {
    if (this.#channel === undefined) this.reject(status);
  }

  reject(status: number, proxyError?: ProxyError): void {
    respondWhole(this.#stream, status, refusalFields(status, proxyError));
  }

  abort(errorCode: number): void {
    this.#channel?.abort(errorCode);
  }

  /** We said our last, which the client answers by ending its side. */
  #sessionClosed(): void {
    if (!this.#stream.closed) closeLater(this.#stream, STREAM_END_TIMEOUT_MS);
  }

  #streamClosed(): void {
    this.#owner.streamClosed(this);
    const channel = this.#channel;
    if (channel === undefined) this.#tunnels.abandon(this.#requestId);
    else if (channel.leave() && !channel.clientEnded) {
      this.#owner.explain(this.#stream.rstCode, (reason, detail) =>
        this.#tunnels.lost(channel.connectionId, reason, detail),
      );
    }
  }
}
