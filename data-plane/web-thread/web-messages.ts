import type { CloseReason } from '../../shared/events/node-events.ts';
import { type Limit, NO_LIMITS_EXCEEDED } from '../limits.ts';
import type { ProxyError } from '../masque/connect-ip-response.ts';
import type { TlsIdentity } from '../tls/tls-identity.ts';
import { type DropReason, NO_DROPS } from '../tunnel/drop-counters.ts';
import type { FailureReport, RequestReport } from '../tunnel/tunnel-messages.ts';

/** Where a thread that is started again goes on from: no counter falls, and an answer to its predecessor's requests is for nobody. */
export interface WebThreadStart {
  readonly firstRequestId: number;
  readonly limits: Readonly<Record<Limit, number>>;
  readonly drops: Readonly<Record<DropReason, number>>;
}

export interface WebThreadOptions {
  /** `ip:port` of the TCP socket. */
  readonly listen: string;
  readonly identity: TlsIdentity;
  /** What clients ask for there. */
  readonly service: 'connect-ip' | 'webtransport';
  /** The names that requests may be made to; any where there are none. */
  readonly authorities: readonly string[];
  /** Connections at once, handshakes under way included. */
  readonly maxConnections: number;
  readonly start: WebThreadStart;
}

/** From the main thread to the web thread. */
export type WebThreadCommand =
  /** The tunnel of a request is open; the end of a byte channel to the packet thread, which the web thread owns from here on. */
  | { readonly type: 'accept'; readonly requestId: number; readonly connectionId: string; readonly fd: number }
  | {
      readonly type: 'reject';
      readonly requestId: number;
      readonly status: number;
      readonly proxyError?: ProxyError;
    }
  /** The packet thread ended a tunnel by an error of HTTP/3, and waits for the end of its channel. */
  | { readonly type: 'abort'; readonly connectionId: string; readonly errorCode: number }
  /** New connections get it; those that are there keep theirs. */
  | { readonly type: 'renewIdentity'; readonly identity: TlsIdentity }
  /** Nobody is let in any more; tunnels live on. */
  | { readonly type: 'announceDrain' }
  | { readonly type: 'drain' }
  | { readonly type: 'stop' };

export interface WebState {
  /** TCP connections, handshakes under way included. */
  readonly connections: number;
  readonly handshakes: number;
  /** How often each limit was exceeded, and packets dropped, in this thread and its predecessors. */
  readonly limits: Readonly<Record<Limit, number>>;
  readonly drops: Readonly<Record<DropReason, number>>;
}

export const NO_WEB_STATE: WebState = { connections: 0, handshakes: 0, limits: NO_LIMITS_EXCEEDED, drops: NO_DROPS };

/** From the web thread to the main thread. */
export type WebThreadReport =
  | { readonly type: 'ready'; readonly listen: string }
  /** Of WebTransport: why the package does not serve it over HTTP/3; null where it does. */
  | { readonly type: 'webTransportLoaded'; readonly http3Problem: string | null }
  | RequestReport
  | FailureReport
  /** The client of a tunnel is gone without an end of its bytes. The packet thread is to close its end of the channel. */
  | { readonly type: 'lost'; readonly connectionId: string; readonly reason: CloseReason; readonly detail: string }
  | ({ readonly type: 'state' } & WebState)
  | { readonly type: 'drained' }
  | { readonly type: 'fatal'; readonly code: string; readonly message: string };
