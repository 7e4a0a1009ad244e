import { ByteChannel } from '../byte-channel/byte-channel.ts';
import { queuePacket } from '../byte-channel/queue-packet.ts';
import { H3_EXCESSIVE_LOAD, Http3StreamError } from '../http3/error-codes.ts';
import type { LoopSources } from '../packet-thread/packet-loop.ts';
import { Tunnel } from './tunnel.ts';
import type { TunnelHost } from './tunnel-host.ts';
import { type TunnelGrant, WEB_THREAD_FAILED } from './tunnel-messages.ts';
import type { TunnelTransport } from './tunnel-transport.ts';

/** What a tunnel behind a byte channel asks of the server. */
export interface ChannelTunnelHost extends TunnelHost {
  /** Something waits to be flushed at the end of the turn. */
  channelQueued(tunnel: ChannelTunnel): void;
  /** The client is to be told of an error. Who carries the tunnel to it does so, and closes its end of the channel. */
  channelAborted(connectionId: string, errorCode: number): void;
  /** The descriptor is given up. */
  channelClosed(tunnel: ChannelTunnel): void;
}

/** How long the other end may take to close after ours has ended (ours); it waits for a client's goodbye. */
const CLOSE_TIMEOUT_MS = 5_000;

/**
 * A tunnel whose client is reached through another thread, by a byte channel that carries its capsules both ways (RFC 9297 3.2): HTTP/2,
 * where every packet is in a DATAGRAM capsule, and WebTransport. A clean end is the end of the bytes; any other is told by message, and
 * who hears of it closes its end of the channel at once. A web thread that fails closes its ends without a word, before anybody can tell.
 */
export class ChannelTunnel implements TunnelTransport {
  readonly maxPacketBytes = Number.POSITIVE_INFINITY;
  readonly connectionId: string;
  readonly #host: ChannelTunnelHost;
  readonly #channel: ByteChannel;
  readonly #tunnel: Tunnel;
  #closeByMs = Number.POSITIVE_INFINITY;

  /** Takes over the descriptor. */
  constructor(fd: number, grant: TunnelGrant, sources: LoopSources, host: ChannelTunnelHost) {
    this.connectionId = grant.connectionId;
    this.#host = host;
    this.#channel = new ByteChannel(fd, sources, {
      onBytes: (bytes) => this.#receive(bytes),
      onEnd: (gone) => this.#receiveEnd(gone),
      onQueued: () => host.channelQueued(this),
    });
    this.#tunnel = new Tunnel(host, this, () => {});
    this.#tunnel.open(grant);
  }

  // --- TunnelTransport

  learnMaxPacketBytes(): true {
    return true;
  }

  sendPacket(bytes: Uint8Array, offset: number, length: number): boolean {
    return queuePacket(this.#channel, bytes, offset, length);
  }

  sendCapsule(capsule: Uint8Array): void {
    if (!this.#channel.send(capsule)) this.#fail(H3_EXCESSIVE_LOAD, 'the client takes nothing');
  }

  end(): void {
    this.#channel.end();
    this.#closeByMs = performance.now() + CLOSE_TIMEOUT_MS;
  }

  abort(errorCode: number): void {
    this.#host.channelAborted(this.connectionId, errorCode);
    this.#closeByMs = performance.now() + CLOSE_TIMEOUT_MS;
  }

  rttMs(): null {
    return null;
  }

  // --- from the server

  flush(): void {
    this.#channel.flush();
  }

  /** The client is gone, and nobody is left at the other end. */
  lost(...[reason, detail]: Parameters<Tunnel['end']>): void {
    this.#tunnel.end(reason, detail);
    this.close();
  }

  drain(): void {
    this.#tunnel.close('drained', 'the node stops');
  }

  /** Gives up what nobody closed in time. */
  sweep(nowMs: number): void {
    if (nowMs >= this.#closeByMs) this.close();
  }

  close(): void {
    this.#channel.close();
    this.#host.channelClosed(this);
  }

  // --- from the channel

  #receive(bytes: Uint8Array): void {
    try {
      this.#tunnel.receiveContent(bytes);
    } catch (error) {
      this.#receiveError(error);
    }
  }

  #receiveEnd(gone: boolean): void {
    if (gone) this.#tunnel.end('error', WEB_THREAD_FAILED);
    if (this.#tunnel.session.state.kind === 'open') {
      try {
        this.#tunnel.receiveEnd();
      } catch (error) {
        this.#receiveError(error);
        return;
      }
      this.#channel.flush();
    }
    this.close();
  }

  #receiveError(error: unknown): void {
    if (!(error instanceof Http3StreamError)) throw error;
    this.#host.limits.count(error.limit);
    this.#fail(error.wireCode, error.message);
  }

  #fail(errorCode: number, detail: string): void {
    this.#tunnel.end('error', detail);
    this.abort(errorCode);
  }
}
