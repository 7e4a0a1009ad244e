import { describeError } from '../../shared/errors.ts';
import type { Transport } from '../../shared/events/node-events.ts';
import { Handoff, NO_HANDOFFS } from '../handoff/handoff.ts';
import { AddressTable } from '../ip/address-table.ts';
import type { IcmpProblem } from '../ip/icmp-error.ts';
import { type Limit, LimitCounters } from '../limits.ts';
import type { AcceptedRequest } from '../masque/connect-ip-request.ts';
import type { LoopSources, LoopTurn } from '../packet-thread/packet-loop.ts';
import { type QuicConnection, QuicServer, type ServerConnectionEvents } from '../quic/quic-server.ts';
import { acceptOwnSource } from '../tun/accept-own-source.ts';
import { IpCommandError } from '../tun/ip-command.ts';
import type { TunOffload } from '../tun/open-tun.ts';
import { TunDevice } from '../tun/tun-device.ts';
import type { SocketAddress } from '../udp/socket-address.ts';
import { UdpSocket, type UdpSocketOptions } from '../udp/udp-socket.ts';
import { ChannelTunnels } from './channel-tunnels.ts';
import { downlinkInfo, routeDownlink } from './downlink.ts';
import { DropCounters } from './drop-counters.ts';
import { IcmpResponder } from './icmp-responder.ts';
import { ServerConnection, type ServerConnectionHost } from './server-connection.ts';
import type { Tunnel } from './tunnel.ts';
import type {
  FailureReport,
  ServerThreadCommand,
  ServerThreadOptions,
  ServerThreadReport,
  TunnelBlock,
} from './tunnel-messages.ts';
import type { TunnelSession } from './tunnel-session.ts';
import { checkUplink, uplinkInfo } from './uplink.ts';

/** Packets taken from the TUN device before what they became is sent, and those of one read beyond them. */
const TUN_BATCH = 32;
/** In a second. */
const MICROSECONDS = 1_000_000;

/**
 * A node's tunnels on one packet thread: client datagrams in order of the packet's way up (`#receiveUdp`, `forwardUp`) and down
 * (`#sendDown`, `#forwardDown`). Who may connect is decided by the main thread, by message.
 */
export class TunnelServer implements LoopTurn, ServerConnectionHost {
  readonly drops = new DropCounters();
  readonly limits = new LimitCounters();
  readonly #options: ServerThreadOptions;
  readonly #report: (report: ServerThreadReport) => void;
  readonly #udp: UdpSocket;
  readonly #tun: TunDevice<TunnelSession>;
  readonly #connections = new Set<ServerConnection>();
  readonly #channels: ChannelTunnels;
  readonly #byAddress = new AddressTable<Tunnel>();
  readonly #requests = new Map<number, ServerConnection>();
  readonly #open = new Map<string, Tunnel>();
  readonly #icmp: IcmpResponder;
  // Made once: these run for every packet.
  readonly #onDatagram = (bytes: Uint8Array, offset: number, length: number, peer: SocketAddress): void => {
    if (this.#quic.receive(bytes, offset, length, peer.text, this.#nowMs)) return;
    this.#handoff?.offer(bytes, offset, length, peer, this.#nowMs);
  };
  readonly #onTunPacket = (bytes: Uint8Array, offset: number, length: number): void =>
    this.#forwardDown(bytes, offset, length);
  readonly #queue = (bytes: Uint8Array, offset: number, length: number, peer: string): void =>
    this.#udp.queue(bytes, offset, length, this.#udp.peers.fromText(peer));
  readonly #quic: QuicServer;
  /** Between the shards, where there are several. */
  readonly #handoff: Handoff | undefined;
  /** Of the turn that is under way. */
  #nowMs = performance.now();
  #nextRequestId = 1;
  #otherErrors = 0;
  #draining = false;

  constructor(options: ServerThreadOptions, report: (report: ServerThreadReport) => void, sources: LoopSources) {
    this.#options = options;
    this.#report = report;
    this.#channels = new ChannelTunnels(sources, this);
    this.#icmp = new IcmpResponder(options.tunnelMtu);
    this.#udp = UdpSocket.bind(options.listen, shareOf(options));
    const { tunName, tunnelMtu, tunOffload } = options;
    this.#tun = TunDevice.open({ name: tunName, mtu: tunnelMtu, offload: tunOffload }, (session, packets, bytes) => {
      session.counters.uncountIn(packets, bytes);
      this.drops.count('tun', packets);
    });
    this.#tun.up();
    acceptOwnSource(this.#tun.name);
    this.#quic = this.#startQuic();
    this.#handoff = this.#joinOthers();
    sources.add(this.#udp.fd, { drain: () => this.#receiveUdp() });
    sources.add(this.#tun.fd, { drain: () => this.#tun.fill() });
    if (this.#handoff !== undefined) sources.add(this.#handoff.fd, { drain: () => this.#receiveHandoffs() });
  }

  get tunName(): string {
    return this.#tun.name;
  }

  get tunOffload(): TunOffload {
    return this.#tun.offload;
  }

  get listen(): string {
    return this.#udp.localAddress.text;
  }

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

  // --- the packet's way up

  /** UDP datagrams into QUIC. */
  #receiveUdp(): void {
    this.#nowMs = performance.now();
    this.#udp.receive(this.#onDatagram);
    this.#handoff?.flush();
    this.#quic.processEvents();
    this.#tun.flush();
  }

  /** Datagrams that other shards got for connections of this one. */
  #receiveHandoffs(): void {
    this.#nowMs = performance.now();
    this.#handoff?.receive(this.#nowMs);
    this.#quic.processEvents();
    this.#tun.flush();
  }

  /** One IP packet from a client, to the TUN device if it passes the checks. */
  forwardUp(tunnel: Tunnel, bytes: Uint8Array, offset: number, length: number): void {
    const { session } = tunnel;
    const verdict = checkUplink(session, bytes, offset, length);
    switch (verdict) {
      case 'forward':
        session.counters.countIn(length);
        this.#tun.queue(bytes, offset, length, session);
        return;
      case 'probe':
        return;
      case 'source':
        this.#answerUp('source_prohibited', tunnel, bytes, offset);
        this.drops.count(verdict);
        return;
      case 'no_route':
        this.#answerUp('no_route', tunnel, bytes, offset);
        this.drops.count('scope');
        return;
      case 'protocol':
        this.#answerUp('protocol_prohibited', tunnel, bytes, offset);
        this.drops.count('scope');
        return;
      case 'malformed':
      case 'scope':
        this.drops.count(verdict);
        return;
      default:
        verdict satisfies never;
    }
  }

  // --- the packet's way down

  /** A batch of the packets that were taken from the TUN device into QUIC. */
  #sendDown(): void {
    for (let packets = 0; packets < TUN_BATCH && this.#tun.received.hasWaiting; ) {
      packets += this.#tun.receive(this.#onTunPacket);
    }
  }

  #forwardDown(bytes: Uint8Array, offset: number, length: number): void {
    const tunnel = routeDownlink(this.#byAddress, bytes, offset, length);
    if (tunnel === 'no_client') {
      this.#answerDown('address_unreachable', bytes, offset);
      this.drops.count('no_client');
      return;
    }
    if (tunnel === 'ignored') {
      this.drops.count('no_client');
      return;
    }
    const { session, transport } = tunnel;
    // What is longer than the interface's MTU the kernel answers itself: here are those that only this tunnel cannot take.
    const mtu = Math.min(this.#options.tunnelMtu, transport.maxPacketBytes);
    if (session.checkDownlink(bytes, offset, downlinkInfo) !== 'inside') {
      this.#answerDown('protocol_prohibited', bytes, offset);
      this.drops.count('scope');
    } else if (length > mtu) {
      this.#answerDown('too_big', bytes, offset, mtu);
      this.drops.count('too_big');
    } else if (transport.sendPacket(bytes, offset, length)) {
      session.counters.countOut(length);
    } else {
      this.drops.count('queue_full');
    }
  }

  #answerUp(problem: IcmpProblem, { session, transport }: Tunnel, bytes: Uint8Array, offset: number): void {
    const length = this.#icmp.write(problem, bytes, offset, uplinkInfo, session.icmpRate);
    if (length > 0) transport.sendPacket(this.#icmp.packet, 0, length);
  }

  #answerDown(problem: IcmpProblem, bytes: Uint8Array, offset: number, mtu?: number): void {
    const length = this.#icmp.write(problem, bytes, offset, downlinkInfo, undefined, mtu);
    if (length > 0) this.#tun.write(this.#icmp.packet, 0, length);
  }

  // --- turns and timers of the loop

  endTurn(): void {
    this.#nowMs = performance.now();
    this.#quic.processEvents();
    this.#tun.flush();
    this.#sendDown();
    this.#flush();
  }

  timeoutMs(): number {
    if (this.#tun.received.hasWaiting) return 0;
    return this.#quic.timeoutMs(performance.now());
  }

  onTimeout(): void {
    this.#quic.onTimeout(performance.now());
  }

  probe(nowMs: number): void {
    for (const tunnel of this.#open.values()) tunnel.probe(nowMs);
  }

  sweep(nowMs: number): void {
    for (const connection of this.#connections) connection.sweep(nowMs);
    this.#channels.sweep(nowMs);
    this.#quic.sweep(nowMs);
    this.#handoff?.sweep(nowMs);
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
      handoffs: this.#handoff?.counts ?? NO_HANDOFFS,
      cpuSeconds: (cpu.user + cpu.system) / MICROSECONDS,
    });
  }

  #limitsExceeded(): Record<Limit, number> {
    const { connectionsRefused, retriesSent } = this.#quic.state();
    return { ...this.limits.snapshot(), connections: connectionsRefused, handshakes: retriesSent };
  }

  /** The thread cannot go on: the tunnels' last totals are told, and the clients sent away if that is possible still. */
  abandon(why: string): void {
    try {
      this.#tun.flush();
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
    this.#tun.release();
    this.#udp.close();
  }

  // --- what the main thread decided

  command(command: Exclude<ServerThreadCommand, { type: 'stop' }>): void {
    switch (command.type) {
      case 'accept': {
        const connection = this.#takeRequest(command.requestId);
        if (connection?.accept(command) !== true) this.#reportUnused(command);
        return;
      }
      case 'reject':
        this.#takeRequest(command.requestId)?.reject(command.requestId, command.status, command.proxyError);
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
        this.#changeBlock('added', command.block, ({ block, nodeAddress }) => [
          () => this.#tun.addAddress(hostPrefixText(nodeAddress)),
          () => this.#tun.addRoute(block),
          () => this.#icmp.addAddress(nodeAddress),
        ]);
        return;
      case 'removeBlock':
        this.#changeBlock('removed', command.block, ({ block, nodeAddress }) => [
          () => this.#icmp.removeAddress(nodeAddress),
          () => this.#tun.removeRoute(block),
          () => this.#tun.removeAddress(hostPrefixText(nodeAddress)),
        ]);
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

  // --- TunnelHost: what connections and their tunnels ask of the server

  requestTunnel(
    connection: ServerConnection,
    { token, target, protocol }: AcceptedRequest,
    transport: Transport,
    wishedAddresses: readonly string[],
  ): number {
    const requestId = this.#nextRequestId++;
    this.#requests.set(requestId, connection);
    const { host: remoteAddress, port: remotePort } = connection.peer;
    this.#report({
      type: 'request',
      requestId,
      transport,
      remoteAddress,
      remotePort,
      token: token?.value ?? null,
      target,
      protocol,
      wishedAddresses,
    });
    return requestId;
  }

  tunnelOpened(tunnel: Tunnel, connectionId: string): void {
    this.#open.set(connectionId, tunnel);
    for (const address of tunnel.session.addresses) this.#byAddress.set(address, tunnel);
  }

  tunnelClosed({ session }: Tunnel, report: Extract<ServerThreadReport, { type: 'closed' }>): void {
    this.#open.delete(report.connectionId);
    for (const address of session.addresses) this.#byAddress.delete(address);
    this.#report(report);
  }

  requestFailed(report: FailureReport): void {
    this.#report(report);
  }

  channelAborted(connectionId: string, errorCode: number): void {
    this.#report({ type: 'channelAborted', connectionId, errorCode });
  }

  requestAbandoned(requestId: number): void {
    this.#requests.delete(requestId);
  }

  /** Takes every step, also after one that `ip` refused: the host's network is not ours alone, and no reason to end all tunnels. */
  #changeBlock(
    change: 'added' | 'removed',
    block: TunnelBlock,
    steps: (block: TunnelBlock) => readonly (() => void)[],
  ): void {
    const problems: string[] = [];
    for (const step of steps(block)) {
      try {
        step();
      } catch (error) {
        if (!(error instanceof IpCommandError)) throw error;
        problems.push(error.message);
      }
    }
    const problem = problems.length === 0 ? null : problems.join('; ');
    this.#report({ type: 'blockChanged', change, block: block.block, problem });
  }

  #takeRequest(requestId: number): ServerConnection | undefined {
    const connection = this.#requests.get(requestId);
    this.#requests.delete(requestId);
    return connection;
  }

  // The client left while the main thread decided: its address and its events are there and must end.
  #reportUnused({ connectionId, clientId }: Extract<ServerThreadCommand, { type: 'accept' }>): void {
    const totals = { bytesIn: 0, bytesOut: 0, packetsIn: 0, packetsOut: 0 };
    const detail = 'left before the tunnel was open';
    this.#report({ type: 'closed', connectionId, clientId, reason: 'client', detail, durationMs: 0, totals });
  }

  // --- QUIC

  #startQuic(): QuicServer {
    const { identity, maxConnections, retryKey } = this.#options;
    return new QuicServer(
      {
        role: 'server',
        ...identity,
        localAddress: this.#udp.localAddress.text,
        maxConnections,
        retryKey,
      },
      { onConnection: (connection) => this.#accept(connection) },
      (message) => this.#report({ type: 'coreMessage', message }),
    );
  }

  #joinOthers(): Handoff | undefined {
    const { shard, handoff: descriptors } = this.#options;
    if (descriptors === null) return undefined;
    return new Handoff({
      shard,
      descriptors,
      peers: this.#udp.peers,
      take: (bytes, offset, length, peer) => this.#quic.receiveHanded(bytes, offset, length, peer.text, this.#nowMs),
    });
  }

  #accept({ endpoint, number, peer }: QuicConnection): ServerConnectionEvents {
    const connection = new ServerConnection(number, this.#udp.peers.fromText(peer), endpoint, this);
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

  #flush(): void {
    this.#channels.flush();
    this.#quic.flush(this.#queue, performance.now());
    this.#udp.flush();
  }

  /** An aborted core is replaced; its connections are gone, and their clients come back by themselves. */
  recover(error: unknown): void {
    this.#quic.recover(error);
    this.#otherErrors++;
    this.#report({ type: 'coreAborted', message: describeError(error) });
  }
}

/** How the socket shares the node's address with those of the other shards. */
function shareOf({ shard, shards }: ServerThreadOptions): UdpSocketOptions {
  return shards === 1 ? {} : { share: shard === 0 ? 'first' : 'join' };
}

function hostPrefixText(address: string): string {
  return `${address}/${address.includes(':') ? 128 : 32}`;
}
