import type { LimitCounters } from '../limits.ts';
import type { DropCounters } from './drop-counters.ts';
import type { Tunnel } from './tunnel.ts';
import type { ServerThreadReport } from './tunnel-messages.ts';

/** What a tunnel asks of the server that it belongs to. */
export interface TunnelHost {
  readonly drops: DropCounters;
  readonly limits: LimitCounters;
  readonly advertiseRoutes: readonly string[];
  /** Of the TUN device, bytes: no longer packet comes from it. */
  readonly tunnelMtu: number;
  tunnelOpened(tunnel: Tunnel, connectionId: string): void;
  tunnelClosed(tunnel: Tunnel, report: Extract<ServerThreadReport, { type: 'closed' }>): void;
  forwardUp(tunnel: Tunnel, bytes: Uint8Array, offset: number, length: number): void;
}
