import { constants, type ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import type { CloseReason } from '../../shared/events/node-events.ts';
import type { AcceptedRequest } from '../masque/connect-ip-request.ts';
import {
  type ProxyError,
  refusalFields,
  TUNNEL_RESPONSE_FIELDS,
  TUNNEL_STATUS,
} from '../masque/connect-ip-response.ts';
import type { RemotePeer, WebTunnel, WebTunnels } from '../web-thread/web-tunnels.ts';
import { awaitChannelEnd } from './await-channel-end.ts';
import { http2ErrorCode } from './http2-error-code.ts';
import { LAST_BYTES_TIMEOUT_MS, STREAM_END_TIMEOUT_MS } from './http2-limits.ts';
import { closeLater, respondOpen, respondWhole } from './respond.ts';

const { NGHTTP2_INTERNAL_ERROR, NGHTTP2_PROTOCOL_ERROR } = constants;

/** A request for a tunnel, as its connection sees it. */
export interface Http2Request {
  /** Answers it where it is not decided yet; nothing happens to a tunnel. */
  refuse(status: number): void;
}

/** What a tunnel asks of the connection that it is on. */
export interface Http2TunnelOwner {
  /** The client was let in. */
  tunnelAccepted(): void;
  /** The stream is gone. */
  streamClosed(request: Http2Request): void;
  /** Tells why the stream is gone, once that is known. */
  explain(resetCode: number, tell: (reason: CloseReason, detail: string) => void): void;
}

/** A request stream of HTTP/2 that asks for a tunnel, and becomes one: its content is that of a byte channel to the packet thread. */
export class Http2Tunnel implements WebTunnel, Http2Request {
  readonly transport = 'http2';
  readonly #stream: ServerHttp2Stream;
  readonly #tunnels: WebTunnels;
  readonly #owner: Http2TunnelOwner;
  readonly #requestId: number;
  #connectionId = '';
  #socket: Socket | undefined;
  /** The client has ended its side, which is on its way to the packet thread. */
  #clientEnded = false;

  constructor(
    stream: ServerHttp2Stream,
    request: AcceptedRequest,
    peer: RemotePeer,
    tunnels: WebTunnels,
    owner: Http2TunnelOwner,
  ) {
    this.#stream = stream;
    this.#tunnels = tunnels;
    this.#owner = owner;
    this.#requestId = tunnels.request(this, request, peer);
    stream.once('close', () => this.#streamClosed());
  }

  accept(connectionId: string, socket: Socket): void {
    const stream = this.#stream;
    this.#connectionId = connectionId;
    this.#socket = socket;
    // What goes wrong with it shows by its end.
    socket.on('error', () => {});
    socket.once('end', () => this.#channelEnded());
    socket.once('close', () => this.#channelClosed());
    respondOpen(stream, TUNNEL_STATUS, TUNNEL_RESPONSE_FIELDS);
    this.#owner.tunnelAccepted();
    socket.pipe(stream);
    stream.pipe(socket, { end: false });
    stream.once('trailers', () => this.#headersInTunnel());
    stream.once('end', () => {
      // A stream that was reset ends as well, but is closed by then.
      if (stream.closed) return;
      this.#clientEnded = true;
      socket.end();
      closeLater(stream, LAST_BYTES_TIMEOUT_MS);
    });
  }

  refuse(status: number): void {
    if (this.#socket === undefined) this.reject(status);
  }

  reject(status: number, proxyError?: ProxyError): void {
    respondWhole(this.#stream, status, refusalFields(status, proxyError));
  }

  /** Nothing but data may come on the stream of a CONNECT (RFC 9113 8.5). */
  #headersInTunnel(): void {
    this.#tunnels.lost(this.#connectionId, 'error', 'HEADERS in an open tunnel');
    this.#stream.close(NGHTTP2_PROTOCOL_ERROR);
  }

  abort(errorCode: number): void {
    this.#socket?.destroy();
    this.#stream.close(http2ErrorCode(errorCode));
  }

  /** The packet thread has said its last; our side of the stream ends with it. */
  #channelEnded(): void {
    closeLater(this.#stream, STREAM_END_TIMEOUT_MS);
  }

  /** Both threads have closed their ends, or the packet thread is gone. */
  #channelClosed(): void {
    this.#tunnels.forget(this.#connectionId);
    if (!this.#stream.closed && !this.#stream.writableEnded) this.#stream.close(NGHTTP2_INTERNAL_ERROR);
  }

  #streamClosed(): void {
    this.#owner.streamClosed(this);
    const socket = this.#socket;
    if (socket === undefined) this.#tunnels.abandon(this.#requestId);
    else if (socket.destroyed || socket.readableEnded) socket.destroy();
    else {
      if (!this.#clientEnded) {
        this.#owner.explain(this.#stream.rstCode, (reason, detail) =>
          this.#tunnels.lost(this.#connectionId, reason, detail),
        );
      }
      awaitChannelEnd(socket);
    }
  }
}
