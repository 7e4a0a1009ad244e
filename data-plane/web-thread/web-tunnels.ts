import { Socket } from 'node:net';
import type { CloseReason, Transport } from '../../shared/events/node-events.ts';
import { awaitChannelEnd } from '../http2/await-channel-end.ts';
import { LimitCounters } from '../limits.ts';
import type { AcceptedRequest } from '../masque/connect-ip-request.ts';
import type { ProxyError } from '../masque/connect-ip-response.ts';
import { DropCounters } from '../tunnel/drop-counters.ts';
import type { WebThreadCommand, WebThreadReport, WebThreadStart } from './web-messages.ts';

/** What asks for a tunnel in the web thread: a stream of HTTP/2, or a session of WebTransport. */
export interface WebTunnel {
  readonly transport: Transport;
  /**
   * It is let in. The socket carries capsules to and from the packet thread, and belongs to the tunnel. A clean end of either side is the end
   * of its bytes; what ends in any other way says so to `WebTunnels.lost`, and destroys the socket when that has ended.
   */
  accept(connectionId: string, socket: Socket): void;
  reject(status: number, proxyError?: ProxyError): void;
  /** The packet thread ended it by an error of HTTP/3. The client is to be told, and the socket destroyed at once. */
  abort(errorCode: number): void;
}

/** Where a client speaks from. */
export interface RemotePeer {
  /** Without a scope. */
  readonly address: string;
  readonly port: number;
}

/** The tunnels of the web thread, from their requests on: what they and the main thread have to say to each other. */
export class WebTunnels {
  readonly limits: LimitCounters;
  readonly drops: DropCounters;
  readonly #report: (report: WebThreadReport) => void;
  readonly #requests = new Map<number, WebTunnel>();
  readonly #open = new Map<string, WebTunnel>();
  #nextRequestId: number;

  constructor(report: (report: WebThreadReport) => void, { firstRequestId, limits, drops }: WebThreadStart) {
    this.#report = report;
    this.#nextRequestId = firstRequestId;
    this.limits = new LimitCounters(limits);
    this.drops = new DropCounters(drops);
  }

  /** Asks who may connect: one of the tunnel's methods is called later. The number is for `abandon`. */
  request(tunnel: WebTunnel, { token, target, protocol }: AcceptedRequest, peer: RemotePeer): number {
    const requestId = this.#nextRequestId++;
    this.#requests.set(requestId, tunnel);
    this.#report({
      type: 'request',
      requestId,
      transport: tunnel.transport,
      remoteAddress: peer.address,
      remotePort: peer.port,
      token: token?.value ?? null,
      target,
      protocol,
    });
    return requestId;
  }

  /** Nobody waits for the answer any more. */
  abandon(requestId: number): void {
    this.#requests.delete(requestId);
  }

  /** The client of an open tunnel is gone: reset, silent, or in breach of the protocol. */
  lost(connectionId: string, reason: CloseReason, detail: string): void {
    if (this.#open.delete(connectionId)) this.#report({ type: 'lost', connectionId, reason, detail });
  }

  /** The tunnel has ended, and both sides know. */
  forget(connectionId: string): void {
    this.#open.delete(connectionId);
  }

  command(command: Extract<WebThreadCommand, { type: 'accept' | 'reject' | 'abort' }>): void {
    switch (command.type) {
      case 'accept':
        this.#accept(command);
        return;
      case 'reject':
        this.#take(command.requestId)?.reject(command.status, command.proxyError);
        return;
      case 'abort': {
        const tunnel = this.#open.get(command.connectionId);
        this.#open.delete(command.connectionId);
        tunnel?.abort(command.errorCode);
        return;
      }
      default:
        command satisfies never;
    }
  }

  #accept({ requestId, connectionId, fd }: Extract<WebThreadCommand, { type: 'accept' }>): void {
    const tunnel = this.#take(requestId);
    const socket = new Socket({ fd, readable: true, writable: true, allowHalfOpen: true });
    if (tunnel === undefined) {
      // The client left while the main thread decided.
      socket.on('error', () => {});
      socket.end();
      awaitChannelEnd(socket);
      return;
    }
    this.#open.set(connectionId, tunnel);
    tunnel.accept(connectionId, socket);
  }

  #take(requestId: number): WebTunnel | undefined {
    const tunnel = this.#requests.get(requestId);
    this.#requests.delete(requestId);
    return tunnel;
  }
}
