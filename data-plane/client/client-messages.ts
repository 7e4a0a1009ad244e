import type { TrafficTotals } from '../../shared/events/node-events.ts';

/** What the client's packet thread needs for one attempt; the TUN device is kept over all of them. */
export interface ClientThreadOptions {
  readonly tun: string;
  readonly mtu: number;
  readonly tunOffload: 'auto' | 'off';
}

export interface ConnectOptions {
  /** Of the request; its query can carry a secret. */
  readonly url: string;
  readonly token: string;
  /** PEM texts. */
  readonly ca: string;
  readonly certificate: { readonly cert: string; readonly key: string } | undefined;
  /** `ip:port`. */
  readonly serverAddress: string;
  /** Networks to send through the tunnel; undefined: what the node advertises. */
  readonly routes: readonly string[] | undefined;
}

/** From the main thread to the packet thread. */
export type ClientThreadCommand =
  | { readonly type: 'connect'; readonly options: ConnectOptions }
  | { readonly type: 'stop' };

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
  | { readonly type: 'configured'; readonly configuration: TunnelConfiguration }
  | { readonly type: 'ended'; readonly reason: string }
  | { readonly type: 'counters'; readonly totals: TrafficTotals }
  | { readonly type: 'fatal'; readonly code: string; readonly message: string };
