import type { TunnelConfiguration, TunnelEnd } from './client-messages.ts';

export interface ClientTunnelEvents {
  /** Addresses or routes came, or changed. `server` is the node's IP address. */
  onConfigured(configuration: TunnelConfiguration, server: string): void;
  /** An IP packet came. Good until the handler returns. */
  onPacket(bytes: Uint8Array, offset: number, length: number): void;
  /** The packets that came together were all handed over. */
  onBatchEnd(): void;
  /** The attempt failed or the tunnel ended; nothing follows. */
  onEnded(end: TunnelEnd): void;
}

/** A tunnel to a node as the packet thread knows it, over whatever carries it. What comes in, its source in the loop brings. */
export interface ClientTunnel {
  /** At the end of each turn: what is ready leaves. */
  endTurn(): void;
  /** Milliseconds until `onTimeout` is due; -1 for never. */
  timeoutMs(): number;
  onTimeout(): void;
  /** Lets the node answer where it said nothing since the last time; every KEEPALIVE_INTERVAL_MS. */
  keepAlive(): void;
  /** Ends what has waited for too long. */
  sweep(nowMs: number): void;
  /** Whether packets may come now; where not, they wait at the TUN device, where one flow is no obstacle to another. */
  readonly hasRoom: boolean;
  /** False when the tunnel is not open or its queue is full. */
  sendPacket(bytes: Uint8Array, offset: number, length: number): boolean;
  /** The tunnel is of no use: ends it, which is told as any other end. */
  giveUp(reason: string): void;
  /** Something in a turn threw: what that means for the tunnel, which is dead then; undefined where it is no matter of the tunnel's. */
  explain(error: unknown): string | undefined;
  /** Ends the tunnel and tells the node. No event follows. */
  close(): void;
}

/**
 * Silence after which an open tunnel is given up and opened anew: a node that was restarted does not answer for connections that it
 * has forgotten. Half of QUIC's idle timeout, and three keepalive intervals.
 */
export const SILENCE_TIMEOUT_MS = 15_000;
export const KEEPALIVE_INTERVAL_MS = SILENCE_TIMEOUT_MS / 3;
/** An attempt that has no tunnel after this long has failed. */
export const CONNECT_TIMEOUT_MS = 10_000;
