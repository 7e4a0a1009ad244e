import { describeError } from '../../shared/errors.ts';
import { type Limit, LimitCounters } from '../limits.ts';
import type { LoopSources, LoopTurn } from '../packet-thread/packet-loop.ts';
import type { QuicConnection, ServerConnectionEvents } from '../quic/quic-server.ts';
import type { TunOffload } from '../tun/open-tun.ts';
import type { SocketAddress } from '../udp/socket-address.ts';
import { ChannelTunnels } from './channel-tunnels.ts';
import { DropCounters } from './drop-counters.ts';
import { PacketForwarder } from './packet-forwarder.ts';
import { QuicListener } from './quic-listener.ts';
import { ServerConnection } from './server-connection.ts';
import type { ServerConnectionHost } from './server-connection-host.ts';
import type { Tunnel } from './tunnel.ts';
import type { FailureReport, ServerThreadCommand, ServerThreadOptions, ServerThreadReport } from './tunnel-messages.ts';
import { TunnelNetwork } from './tunnel-network.ts';
import { WaitingRequests } from './waiting-requests.ts';

/** In a second. */
const MICROSECONDS = 1_000_000;

/**
 * A node's tunnels on one packet thread: it joins QUIC and the byte channels, which carry them, with the forwarder, which has their packets.
 * Who may connect is decided by the main thread, by message.
 */
export class TunnelServer implements LoopTurn, ServerConnectionHost {
  readonly drops = new DropCounters();
  readonly limits = new LimitCounters();
  readonly forwardUp: PacketForwarder['forwardUp'];
  readonly #options: ServerThreadOptions;
  readonly #report: (report: ServerThreadReport) => void;
  readonly #network: TunnelNetwork;
  readonly #packets: PacketForwarder;
  readonly #quic: QuicListener;
  readonly #connections = new Set<ServerConnection>();
  readonly #requests: WaitingRequests;
  readonly #channels: ChannelTunnels;
  readonly #open = new Map<string, Tunnel>();
  #otherErrors = 0;
  #draining = false;

  constructor(options: ServerThreadOptions, report: (report: ServerThreadReport) => void, sources: LoopSources) {
    this.#options = options;
    this.#report = report;
    const { tunName, tunnelMtu, tunOffload } = options;
    this.#quic = new QuicListener(options, sources, {
      onConnection: (connection, peer) => this.#accept(connection, peer),
      onBatchEnd: () => this.#packets.flush(),
      onCoreMessage: (message) => report({ type: 'coreMessage', message }),
    });
    this.#network = new TunnelNetwork({ name: tunName, mtu: tunnelMtu, offload: tunOffload }, this.drops);
    this.#packets = new PacketForwarder(this.#network, tunnelMtu, this.drops);
    this.forwardUp = this.#packets.forwardUp;
    this.#requests = new WaitingRequests(report);
    this.#channels = new ChannelTunnels(sources, this);
    const { tun } = this.#network;
    sources.add(tun.fd, { drain: () => tun.fill() });
  }

  get tunName(): string {
    return this.#network.tun.name;
  }

  get tunOffload(): TunOffload {
    return this.#network.tun.offload;
  }

  get listen(): string {
    return this.#quic.address;
  }

  // --- turns and timers of the loop

  endTurn(): void {
    this.#quic.processEvents();
    this.#packets.flush();
    this.#packets.sendDown();
    this.#flush();
  }

  timeoutMs(): number {
    return this.#packets.hasWaiting ? 0 : this.#quic.timeoutMs();
  }

  onTimeout(): void {
    this.#quic.onTimeout();
  }

  probe(nowMs: number): void {
    for (const tunnel of this.#open.values()) tunnel.probe(nowMs);
  }

  sweep(nowMs: number): void {
    for (const connection of this.#connections) connection.sweep(nowMs);
    this.#channels.sweep(nowMs);
    this.#quic.sweep(nowMs);
  }

  /** Ends a traffic window. */
  endWindow(): void {
    const connections = [...this.#open.values()].flatMap((tunnel) => tunnel.endWindow() ?? []);
    const cpu = process.threadCpuUsage();
    this.#report({
      type: 'window',
      connections,
      drops: this.drops.snapshot(),
      limits: this.#limitsExceeded(),
      errors: { packet: this.drops.packetErrors, other: this.#otherErrors },
      quic: this.#quic.state(),
      handoffs: this.#quic.handoffs,
      cpuSeconds: (cpu.user + cpu.system) / MICROSECONDS,
    });
  }

  #limitsExceeded(): Record<Limit, number> {
    const { connectionsRefused, retriesSent } = this.#quic.state();
    return { ...this.limits.snapshot(), connections: connectionsRefused, handshakes: retriesSent };
  }

  /** An aborted core is replaced; its connections are gone, and their clients come back by themselves. */
  recover(error: unknown): void {
    this.#quic.recover(error);
    this.#otherErrors++;
    this.#report({ type: 'coreAborted', message: describeError(error) });
  }

  /** The thread cannot go on: the tunnels' last totals are told, and the clients sent away if that is possible still. */
  abandon(why: string): void {
    try {
      this.#packets.flush();
    } catch {
      // It may be what failed; what it did not take is not in the totals.
    }
    for (const connection of [...this.#connections]) connection.lost(why);
    this.#channels.abandon(why);
    this.endWindow();
    try {
      this.close();
    } catch {
      // Whatever failed may fail again. The clients' idle timers will tell them.
    }
  }

  close(): void {
    for (const connection of this.#connections) connection.close();
    this.#channels.close();
    this.#flush();
    this.#network.tun.release();
    this.#quic.close();
  }

  #flush(): void {
    this.#channels.flush();
    this.#quic.flush();
  }

  // --- what the main thread decided

  command(command: Exclude<ServerThreadCommand, { type: 'stop' }>): void {
    switch (command.type) {
      case 'accept':
        this.#requests.accept(command);
        return;
      case 'reject':
        this.#requests.reject(command);
        return;
      case 'adopt':
        this.#channels.adopt(command);
        return;
      case 'lost':
        this.#channels.lost(command);
        return;
      case 'close':
        this.#open.get(command.connectionId)?.close(command.reason, command.detail);
        return;
      case 'addBlock':
      case 'removeBlock':
        this.#changeBlock(command);
        return;
      case 'renewIdentity':
        this.#quic.renew(command.identity);
        return;
      case 'announceDrain':
        this.#draining = true;
        for (const connection of this.#connections) connection.announceDrain();
        return;
      case 'drain':
        this.#draining = true;
        for (const connection of this.#connections) connection.drain('the node stops');
        this.#channels.drain();
        this.endWindow();
        this.#report({ type: 'drained' });
        return;
      default:
        command satisfies never;
    }
  }

  #changeBlock({ type, block }: Extract<ServerThreadCommand, { type: 'addBlock' | 'removeBlock' }>): void {
    const [change, problem] =
      type === 'addBlock'
        ? (['added', this.#network.addBlock(block)] as const)
        : (['removed', this.#network.removeBlock(block)] as const);
    this.#report({ type: 'blockChanged', change, block: block.block, problem });
  }

  // --- from QUIC

  #accept({ endpoint, number }: QuicConnection, peer: SocketAddress): ServerConnectionEvents {
    const connection = new ServerConnection(number, peer, endpoint, this);
    this.#connections.add(connection);
    return {
      onHandshakeComplete: () => connection.start(),
      onStreamData: (streamId, bytes, fin) => connection.receiveStream(streamId, bytes, fin),
      onStreamReset: (streamId, code) => connection.streamReset(streamId, code),
      onDatagram: (bytes, offset, length) => connection.receiveDatagram(bytes, offset, length),
      onClosed: (code, reason) => {
        this.#connections.delete(connection);
        connection.closed(code, reason);
      },
      onRetired: () => {
        connection.drain('its certificate was replaced several times');
        connection.close();
      },
      onLost: (cause) => {
        this.#connections.delete(connection);
        connection.lost(`the QUIC core aborted: ${describeError(cause)}`);
      },
    };
  }

  // --- TunnelHost: what connections and their tunnels ask of the server

  get authorities(): readonly string[] {
    return this.#options.authorities;
  }

  get advertiseRoutes(): readonly string[] {
    return this.#options.advertiseRoutes;
  }

  get tunnelMtu(): number {
    return this.#options.tunnelMtu;
  }

  get draining(): boolean {
    return this.#draining;
  }

  requestTunnel(...request: Parameters<WaitingRequests['ask']>): number {
    return this.#requests.ask(...request);
  }

  requestAbandoned(requestId: number): void {
    this.#requests.abandon(requestId);
  }

  requestFailed(report: FailureReport): void {
    this.#report(report);
  }

  tunnelOpened(tunnel: Tunnel, connectionId: string): void {
    this.#open.set(connectionId, tunnel);
    this.#packets.add(tunnel);
  }

  tunnelClosed(tunnel: Tunnel, report: Extract<ServerThreadReport, { type: 'closed' }>): void {
    this.#open.delete(report.connectionId);
    this.#packets.remove(tunnel);
    this.#report(report);
  }

  channelAborted(connectionId: string, errorCode: number): void {
    this.#report({ type: 'channelAborted', connectionId, errorCode });
  }
}
