import type { CloseReason, Transport } from '../../shared/events/node-events.ts';
import type { TrafficTotals } from '../../shared/events/traffic-columns.ts';
import type { HandoffCounts } from '../handoff/handoff.ts';
import type { HandoffDescriptors } from '../handoff/handoff-sockets.ts';
import type { Limit } from '../limits.ts';
import type { ConnectIpProtocol, ConnectIpTarget } from '../masque/connect-ip-request.ts';
import type { ProxyError } from '../masque/connect-ip-response.ts';
import type { QuicServerState } from '../quic/quic-server-state.ts';
import type { TlsIdentity } from '../tls/tls-identity.ts';
import type { TunOffload } from '../tun/open-tun.ts';
import type { DropReason } from './drop-counters.ts';

/** One block of the node: its clients' addresses are reached through the TUN device, its own address answers there. */
export interface TunnelBlock {
  /** Prefix of the block. */
  readonly block: string;
  /** The node's own address in it; null where the block is one static address. */
  readonly nodeAddress: string | null;
}

export interface ServerThreadOptions {
  /** The number of this thread, of so many. */
  readonly shard: number;
  readonly shards: number;
  /** How it reaches the others; null where it is the only one. */
  readonly handoff: HandoffDescriptors | null;
  readonly listen: string;
  readonly identity: TlsIdentity;
  readonly tunName: string;
  readonly tunnelMtu: number;
  readonly tunOffload: 'auto' | 'off';
  /** Prefixes that clients may reach through the node. */
  readonly advertiseRoutes: readonly string[];
  /** The names that requests may be made to; any where there are none. */
  readonly authorities: readonly string[];
  /** Of this thread. */
  readonly maxConnections: number;
  /** The same for all threads of a node, so that each takes the Retry tokens of the others. */
  readonly retryKey: Uint8Array;
  readonly trafficWindowMs: number;
}

/** Why a tunnel has ended whose client was reached through a thread that is no more. */
export const WEB_THREAD_FAILED = 'the web thread failed';

/** What a tunnel was asked for, its target as prefixes; null: anywhere. */
export interface AcceptedScope {
  readonly targets: readonly string[] | null;
  readonly protocol: ConnectIpProtocol;
}

/** What a client is given that was let in. */
export interface TunnelGrant {
  readonly connectionId: string;
  readonly clientId: string;
  readonly addresses: readonly { readonly address: string; readonly nodeAddress: string }[];
  readonly scope: AcceptedScope;
}

/** From the main thread to the packet thread. */
export type ServerThreadCommand =
  | ({ readonly type: 'accept'; readonly requestId: number } & TunnelGrant)
  | {
      readonly type: 'reject';
      readonly requestId: number;
      readonly status: number;
      /** For Proxy-Status, where the target is the reason. */
      readonly proxyError?: ProxyError;
    }
  /** A tunnel whose client another thread carries: the end of a byte channel, which the packet thread owns from here on. */
  | ({ readonly type: 'adopt'; readonly fd: number } & TunnelGrant)
  | { readonly type: 'close'; readonly connectionId: string; readonly reason: CloseReason; readonly detail: string }
  /** That other thread lost the client of a tunnel, and waits for the end of the channel. */
  | { readonly type: 'lost'; readonly connectionId: string; readonly reason: CloseReason; readonly detail: string }
  | { readonly type: 'addBlock'; readonly block: TunnelBlock }
  | { readonly type: 'removeBlock'; readonly block: TunnelBlock }
  /** New connections get it; those that are there keep theirs. */
  | { readonly type: 'renewIdentity'; readonly identity: TlsIdentity }
  /** Nobody is let in any more; tunnels live on until `drain`. */
  | { readonly type: 'announceDrain' }
  | { readonly type: 'drain' }
  | { readonly type: 'stop' };

/** What one connection did: its totals up to now, and its probes of one window. */
export interface ConnectionCounters {
  readonly connectionId: string;
  readonly clientId: string;
  readonly totals: TrafficTotals;
  readonly rttMs: number | null;
  readonly probe: {
    /** Of the window that ends: probes that were answered or whose time is up. */
    readonly sent: number;
    readonly answered: number;
    readonly latenciesMs: readonly number[];
  };
}

/** A client asks for a tunnel. */
export interface RequestReport {
  readonly type: 'request';
  /** Of the thread that asks. */
  readonly requestId: number;
  readonly transport: Transport;
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** The bearer token, or null where there was none. */
  readonly token: string | null;
  readonly target: ConnectIpTarget;
  readonly protocol: ConnectIpProtocol;
  /** Addresses that the client would like, from an ADDRESS_REQUEST that came with the request; over HTTP/3 only. */
  readonly wishedAddresses?: readonly string[];
}

/** A request was refused, or broke before it was one (status 0), and the main thread did not decide that. */
export interface FailureReport {
  readonly type: 'failed';
  readonly remoteAddress: string;
  readonly status: number;
  readonly reason: string;
  readonly errorType: 'auth' | 'connection';
}

/** From the packet thread to the main thread. */
export type ServerThreadReport =
  | { readonly type: 'ready'; readonly listen: string; readonly tunName: string; readonly tunOffload: TunOffload }
  | RequestReport
  | FailureReport
  | {
      readonly type: 'closed';
      readonly connectionId: string;
      readonly clientId: string;
      readonly reason: CloseReason;
      readonly detail: string;
      readonly durationMs: number;
      readonly totals: TrafficTotals;
    }
  | {
      readonly type: 'window';
      readonly connections: readonly ConnectionCounters[];
      /** Since the thread started. */
      readonly drops: Readonly<Record<DropReason, number>>;
      readonly limits: Readonly<Record<Limit, number>>;
      readonly errors: { readonly packet: number; readonly other: number };
      readonly quic: QuicServerState;
      readonly handoffs: HandoffCounts;
      /** CPU time of the thread since it started. */
      readonly cpuSeconds: number;
    }
  /** The tunnel of a byte channel was ended by an error of HTTP/3: the client is to be told, and the other end of the channel closed. */
  | { readonly type: 'channelAborted'; readonly connectionId: string; readonly errorCode: number }
  /** The answer to `addBlock` and `removeBlock`; `problem` says what could not be done. */
  | {
      readonly type: 'blockChanged';
      readonly change: 'added' | 'removed';
      readonly block: string;
      readonly problem: string | null;
    }
  /** What the QUIC core wrote before it aborted, and that it did. */
  | { readonly type: 'coreMessage'; readonly message: string }
  | { readonly type: 'coreAborted'; readonly message: string }
  | { readonly type: 'drained' }
  | { readonly type: 'fatal'; readonly code: string; readonly message: string };
