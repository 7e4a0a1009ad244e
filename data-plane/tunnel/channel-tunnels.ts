import type { LoopSources } from '../packet-thread/packet-loop.ts';
import { ChannelTunnel, type ChannelTunnelHost } from './channel-tunnel.ts';
import type { ServerThreadCommand } from './tunnel-messages.ts';

type TunnelsHost = Omit<ChannelTunnelHost, 'channelQueued' | 'channelClosed'>;

/** All tunnels of a packet thread that are behind byte channels, until their channels are closed. */
export class ChannelTunnels {
  readonly #sources: LoopSources;
  readonly #host: ChannelTunnelHost;
  readonly #tunnels = new Map<string, ChannelTunnel>();
  /** Those that queued something in the turn that is under way. */
  #queued: ChannelTunnel[] = [];

  constructor(sources: LoopSources, host: TunnelsHost) {
    this.#sources = sources;
    this.#host = {
      drops: host.drops,
      limits: host.limits,
      advertiseRoutes: host.advertiseRoutes,
      tunnelMtu: host.tunnelMtu,
      tunnelOpened: (tunnel, connectionId) => host.tunnelOpened(tunnel, connectionId),
      tunnelClosed: (tunnel, report) => host.tunnelClosed(tunnel, report),
      forwardUp: (tunnel, bytes, offset, length) => host.forwardUp(tunnel, bytes, offset, length),
      channelAborted: (connectionId, errorCode) => host.channelAborted(connectionId, errorCode),
      channelQueued: (tunnel) => this.#queued.push(tunnel),
      channelClosed: ({ connectionId }) => this.#tunnels.delete(connectionId),
    };
  }

  /** Opens a tunnel whose client was told so. */
  adopt({ fd, ...grant }: Extract<ServerThreadCommand, { type: 'adopt' }>): void {
    this.#tunnels.set(grant.connectionId, new ChannelTunnel(fd, grant, this.#sources, this.#host));
  }

  /** The client of a tunnel is gone. */
  lost({ connectionId, reason, detail }: Extract<ServerThreadCommand, { type: 'lost' }>): void {
    this.#tunnels.get(connectionId)?.lost(reason, detail);
  }

  /** Hands over what was queued since the last call. */
  flush(): void {
    if (this.#queued.length === 0) return;
    const queued = this.#queued;
    this.#queued = [];
    for (const tunnel of queued) tunnel.flush();
  }

  sweep(nowMs: number): void {
    for (const tunnel of this.#tunnels.values()) tunnel.sweep(nowMs);
  }

  drain(): void {
    for (const tunnel of this.#tunnels.values()) tunnel.drain();
  }

  /** The thread cannot go on. */
  abandon(why: string): void {
    for (const tunnel of this.#tunnels.values()) tunnel.lost('error', why);
  }

  close(): void {
    this.flush();
    for (const tunnel of this.#tunnels.values()) tunnel.close();
  }
}
