import { ByteChannel, PACKET_QUEUE_BYTES } from '../byte-channel/byte-channel.ts';
import { queuePacket } from '../byte-channel/queue-packet.ts';
import { Http3StreamError } from '../http3/error-codes.ts';
import type { LoopSources } from '../packet-thread/packet-loop.ts';
import type { TunnelEnd } from './client-messages.ts';
import type { ClientTunnel, ClientTunnelEvents } from './client-tunnel.ts';
import { TunnelContent } from './tunnel-content.ts';

/**
 * An open tunnel whose stream another thread carries: capsules come and go by a byte channel. That thread keeps it alive, and knows
 * why it ends.
 */
export class ChannelTunnel implements ClientTunnel {
  readonly #channel: ByteChannel;
  readonly #content: TunnelContent;
  readonly #events: ClientTunnelEvents;
  #ended = false;

  /** Takes over the descriptor. `server` is the node's IP address. */
  constructor(fd: number, server: string, sources: LoopSources, events: ClientTunnelEvents) {
    this.#events = events;
    this.#content = new TunnelContent(server, {
      onConfigured: events.onConfigured,
      onPacket: events.onPacket,
      sendCapsule: (capsule) => {
        if (!this.#channel.send(capsule)) this.giveUp('the queue to the node is full');
      },
    });
    this.#channel = new ByteChannel(fd, sources, {
      onBytes: (bytes) => this.#try(() => this.#content.push(bytes)),
      onEnd: () => {
        this.#try(() => this.#content.end());
        this.#end({ reason: 'the node ended the tunnel' });
      },
    });
  }

  get hasRoom(): boolean {
    return this.#channel.queuedBytes < PACKET_QUEUE_BYTES;
  }

  endTurn(): void {
    this.#channel.flush();
  }

  timeoutMs(): number {
    return -1;
  }

  onTimeout(): void {}

  keepAlive(): void {}

  sweep(): void {}

  sendPacket(bytes: Uint8Array, offset: number, length: number): boolean {
    return queuePacket(this.#channel, bytes, offset, length);
  }

  giveUp(reason: string): void {
    this.#end({ reason });
  }

  explain(): undefined {}

  close(): void {
    this.#ended = true;
    this.#content.stop();
    this.#channel.flush();
    this.#channel.close();
  }

  #try(read: () => void): void {
    try {
      read();
    } catch (error) {
      if (!(error instanceof Http3StreamError)) throw error;
      this.#end({ reason: error.message, errorCode: error.wireCode });
    }
    this.#events.onBatchEnd();
  }

  #end(end: TunnelEnd): void {
    if (this.#ended) return;
    this.close();
    this.#events.onEnded(end);
  }
}
