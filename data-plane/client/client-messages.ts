import type { TrafficTotals } from '../../shared/events/traffic-columns.ts';
import type { Transport } from './transport-race.ts';

/** What the client's packet thread needs for one attempt; the TUN device is kept over all of them. */
export interface ClientThreadOptions {
  readonly tun: string;
  readonly mtu: number;
  readonly tunOffload: 'auto' | 'off';
  /** Networks to send through the tunnel; undefined: what the node advertises. */
  readonly routes: readonly string[] | undefined;
}

/** Where an attempt goes, and as whom. */
export interface ConnectOptions {
  /** Of the request; its query can carry a secret. */
  readonly url: string;
  readonly token: string;
  /** PEM texts. */
  readonly ca: string;
  readonly certificate: { readonly cert: string; readonly key: string } | undefined;
  /** `ip:port`. */
  readonly serverAddress: string;
}

/** From the main thread to the packet thread. There is one attempt at a time; `prepare` begins the next. */
export type ClientThreadCommand =
  /** Keeps the way to the node out of the tunnel: `prepared` follows. */
  | { readonly type: 'prepare'; readonly attempt: number; readonly serverAddress: string }
  /** Tries HTTP/3: `http3Ready` follows, or its end. */
  | { readonly type: 'connectHttp3'; readonly options: ConnectOptions }
  /** HTTP/3 won: sends the request. */
  | { readonly type: 'requestHttp3' }
  /** HTTP/2 won: ends the attempt over HTTP/3. */
  | { readonly type: 'closeHttp3' }
  /** The tunnel over HTTP/2 is open: its capsules come and go by this descriptor, which is the packet thread's from now on. */
  | { readonly type: 'attach'; readonly fd: number; readonly serverAddress: string }
  | { readonly type: 'stop' };

export interface TunnelEnd {
  readonly reason: string;
  /** The node broke a rule, and was not told yet: the code of HTTP/3 for that. */
  readonly errorCode?: number;
}

/** What the node gave us. */
export interface TunnelConfiguration {
  /** Assigned prefixes, e.g. `10.99.0.7/32`. */
  readonly addresses: readonly string[];
  /** Advertised networks, as prefixes. */
  readonly routes: readonly string[];
}

/** From the packet thread to the main thread. */
export type ClientThreadReport =
  | { readonly type: 'ready'; readonly tun: string }
  /** `problem`: why there is no way to the node. */
  | { readonly type: 'prepared'; readonly attempt: number; readonly problem?: string }
  | { readonly type: 'http3Ready'; readonly attempt: number }
  | { readonly type: 'configured'; readonly attempt: number; readonly configuration: TunnelConfiguration }
  /** Of the attempt over HTTP/3, or of the tunnel. */
  | ({ readonly type: 'ended'; readonly attempt: number; readonly transport: Transport } & TunnelEnd)
  | { readonly type: 'counters'; readonly totals: TrafficTotals }
  | { readonly type: 'fatal'; readonly code: string; readonly message: string };
