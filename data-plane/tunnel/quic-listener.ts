import { Handoff, NO_HANDOFFS } from '../handoff/handoff.ts';
import type { LoopSources } from '../packet-thread/packet-loop.ts';
import { type QuicConnection, QuicServer, type ServerConnectionEvents } from '../quic/quic-server.ts';
import type { SocketAddress } from '../udp/socket-address.ts';
import { UdpSocket, type UdpSocketOptions } from '../udp/udp-socket.ts';
import type { ServerThreadOptions } from './tunnel-messages.ts';

export interface QuicListenerEvents {
  /** A client connects. */
  onConnection(connection: QuicConnection, peer: SocketAddress): ServerConnectionEvents;
  /** The datagrams that came together were all handled. */
  onBatchEnd(): void;
  /** What the QUIC core writes. */
  onCoreMessage(message: string): void;
}

/** The node's UDP socket and QUIC on it. Where there are several shards, datagrams that came to the wrong one are handed over. */
export class QuicListener {
  readonly #events: QuicListenerEvents;
  readonly #udp: UdpSocket;
  readonly #quic: QuicServer;
  /** Between the shards, where there are several. */
  readonly #handoff: Handoff | undefined;
  // Made once: these run for every packet.
  readonly #onDatagram = (bytes: Uint8Array, offset: number, length: number, peer: SocketAddress): void => {
    if (this.#quic.receive(bytes, offset, length, peer.text, this.#nowMs)) return;
    this.#handoff?.offer(bytes, offset, length, peer, this.#nowMs);
  };
  readonly #queue = (bytes: Uint8Array, offset: number, length: number, peer: string): void =>
    this.#udp.queue(bytes, offset, length, this.#udp.peers.fromText(peer));
  /** Of the turn that is under way. */
  #nowMs = performance.now();

  /** Binds the socket. */
  constructor(options: ServerThreadOptions, sources: LoopSources, events: QuicListenerEvents) {
    this.#events = events;
    this.#udp = UdpSocket.bind(options.listen, shareOf(options));
    this.#quic = this.#startQuic(options);
    this.#handoff = this.#joinOthers(options);
    sources.add(this.#udp.fd, { drain: () => this.#receiveUdp() });
    if (this.#handoff !== undefined) sources.add(this.#handoff.fd, { drain: () => this.#receiveHandoffs() });
  }

  /** `ip:port` of the socket. */
  get address(): string {
    return this.#udp.localAddress.text;
  }

  get handoffs() {
    return this.#handoff?.counts ?? NO_HANDOFFS;
  }

  state() {
    return this.#quic.state();
  }

  renew(...[identity]: Parameters<QuicServer['renew']>): void {
    this.#quic.renew(identity);
  }

  processEvents(): void {
    this.#nowMs = performance.now();
    this.#quic.processEvents();
  }

  flush(): void {
    this.#quic.flush(this.#queue, performance.now());
    this.#udp.flush();
  }

  /** Milliseconds until `onTimeout` is due, or -1. */
  timeoutMs(): number {
    return this.#quic.timeoutMs(performance.now());
  }

  onTimeout(): void {
    this.#quic.onTimeout(performance.now());
  }

  sweep(nowMs: number): void {
    this.#quic.sweep(nowMs);
    this.#handoff?.sweep(nowMs);
  }

  /** An aborted core is replaced; its connections are gone, and their clients come back by themselves. Throws any other error. */
  recover(error: unknown): void {
    this.#quic.recover(error);
  }

  close(): void {
    this.#udp.close();
  }

  #receiveUdp(): void {
    this.#nowMs = performance.now();
    this.#udp.receive(this.#onDatagram);
    this.#handoff?.flush();
    this.#quic.processEvents();
    this.#events.onBatchEnd();
  }

  /** Datagrams that other shards got for connections of this one. */
  #receiveHandoffs(): void {
    this.#nowMs = performance.now();
    this.#handoff?.receive(this.#nowMs);
    this.#quic.processEvents();
    this.#events.onBatchEnd();
  }

  #startQuic({ identity, maxConnections, retryKey }: ServerThreadOptions): QuicServer {
    return new QuicServer(
      { role: 'server', ...identity, localAddress: this.#udp.localAddress.text, maxConnections, retryKey },
      {
        onConnection: (connection) => this.#events.onConnection(connection, this.#udp.peers.fromText(connection.peer)),
      },
      (message) => this.#events.onCoreMessage(message),
    );
  }

  #joinOthers({ shard, handoff: descriptors }: ServerThreadOptions): Handoff | undefined {
    if (descriptors === null) return undefined;
    return new Handoff({
      shard,
      descriptors,
      peers: this.#udp.peers,
      take: (bytes, offset, length, peer) => this.#quic.receiveHanded(bytes, offset, length, peer.text, this.#nowMs),
    });
  }
}

/** How the socket shares the node's address with those of the other shards. */
function shareOf({ shard, shards }: ServerThreadOptions): UdpSocketOptions {
  return shards === 1 ? {} : { share: shard === 0 ? 'first' : 'join' };
}
