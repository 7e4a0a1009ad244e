import { parsePrefix } from '../../shared/ip/prefix.ts';
import { staysOnLink } from '../ip/link-scope.ts';
import { inspectPacket } from '../ip/packet.ts';
import { createPacketInfo } from '../ip/packet-info.ts';
import { PrefixList } from '../ip/prefix-list.ts';
import type { LoopSources, LoopTurn } from '../packet-thread/packet-loop.ts';
import { isCoreTrap } from '../quic/quic-endpoint.ts';
import { IpCommandError } from '../tun/ip-command.ts';
import { TunDevice } from '../tun/tun-device.ts';
import { answerProbe } from '../tunnel/echo-probe.ts';
import { TrafficCounters } from '../tunnel/traffic-counters.ts';
import { UdpSocket } from '../udp/udp-socket.ts';
import { ClientConnection } from './client-connection.ts';
import type {
  ClientThreadOptions,
  ClientThreadReport,
  ConnectOptions,
  TunnelConfiguration,
} from './client-messages.ts';
import { TunConfiguration } from './tun-configuration.ts';

/** Packets taken from the TUN device before what they became is sent, and those of one read beyond them. */
const TUN_BATCH = 64;

/** The client's packet thread: one TUN device, and one tunnel after the other. */
export class TunnelClient implements LoopTurn {
  readonly #report: (report: ClientThreadReport) => void;
  readonly #sources: LoopSources;
  readonly #tun: TunDevice;
  readonly #sockets = new Map<4 | 6, UdpSocket>();
  readonly #counters = new TrafficCounters();
  readonly #info = createPacketInfo();
  #own = new PrefixList([]);
  // Made once: it runs for every packet.
  readonly #onTunPacket = (bytes: Uint8Array, offset: number, length: number): void =>
    this.#sendPacket(bytes, offset, length);
  #configuration: TunConfiguration | undefined;
  #connection: ClientConnection | undefined;

  constructor(options: ClientThreadOptions, report: (report: ClientThreadReport) => void, sources: LoopSources) {
    this.#report = report;
    this.#sources = sources;
    const { tun: name, mtu, tunOffload: offload } = options;
    this.#tun = TunDevice.open({ name, mtu, offload }, (_owner, packets, bytes) =>
      this.#counters.uncountOut(packets, bytes),
    );
    this.#tun.up();
    sources.add(this.#tun.fd, { drain: () => this.#receiveTun() });
  }

  get tunName(): string {
    return this.#tun.name;
  }

  /** Starts an attempt; how it ends is reported. */
  connect(options: ConnectOptions): void {
    this.#configuration ??= new TunConfiguration(this.#tun, options.routes);
    const socket = this.#socket(options.serverAddress.startsWith('[') ? 6 : 4);
    try {
      this.#configuration.prepare(socket.peers.fromText(options.serverAddress).host);
    } catch (error) {
      if (!(error instanceof IpCommandError)) throw error;
      this.#ended(`no way to the node: ${error.message}`);
      return;
    }
    this.#connection = new ClientConnection(options, socket, {
      onConfigured: (configuration, server) => this.#configure(configuration, server),
      onPacket: (bytes, offset, length) => this.#receivePacket(bytes, offset, length),
      onEnded: (reason) => this.#ended(reason),
    });
  }

  endTurn(): void {
    this.#connection?.endTurn();
    this.#tun.flush();
  }

  timeoutMs(): number {
    return this.#connection?.timeoutMs() ?? -1;
  }

  onTimeout(): void {
    this.#connection?.onTimeout();
  }

  recover(error: unknown): void {
    if (!isCoreTrap(error) || this.#connection === undefined) throw error;
    this.#ended(this.#connection.trapped());
  }

  keepAlive(): void {
    this.#connection?.keepAlive();
  }

  sweep(nowMs: number): void {
    this.#connection?.sweep(nowMs);
  }

  report(): void {
    this.#report({ type: 'counters', totals: this.#counters.totals() });
  }

  close(): void {
    this.#connection?.close();
    this.#tun.flush();
    this.report();
    for (const socket of this.#sockets.values()) socket.close();
    this.#configuration?.release();
    this.#tun.release();
  }

  #socket(family: 4 | 6): UdpSocket {
    let socket = this.#sockets.get(family);
    if (socket === undefined) {
      const bound = UdpSocket.bind(family === 4 ? '0.0.0.0:0' : '[::]:0');
      this.#sockets.set(family, bound);
      this.#sources.add(bound.fd, { drain: () => this.#receiveUdp(bound) });
      socket = bound;
    }
    return socket;
  }

  #receiveUdp(socket: UdpSocket): boolean {
    const taken = socket.receive((bytes, offset, length, peer) =>
      this.#connection?.receiveUdp(bytes, offset, length, peer),
    );
    this.#connection?.processEvents();
    this.#tun.flush();
    return taken > 0;
  }

  #receiveTun(): boolean {
    for (let packets = 0; packets < TUN_BATCH; ) {
      const taken = this.#tun.receive(this.#onTunPacket);
      if (taken === 0) return false;
      packets += taken;
    }
    this.endTurn();
    return true;
  }

  #sendPacket(bytes: Uint8Array, offset: number, length: number): void {
    // A kernel talks to its neighbours on every interface: here there are none.
    if (inspectPacket(bytes, offset, length, this.#info) !== 'ok' || staysOnLink(bytes, offset, this.#info)) return;
    if (this.#connection?.sendPacket(bytes, offset, length) === true) this.#counters.countIn(length);
  }

  #receivePacket(bytes: Uint8Array, offset: number, length: number): void {
    const info = this.#info;
    if (inspectPacket(bytes, offset, length, info) !== 'ok' || staysOnLink(bytes, offset, info)) return;
    // The node reaches what it assigned, and nothing else on this host or behind it.
    if (!this.#own.contains(bytes, offset + info.destinationOffset, info.family)) return;
    const answer = answerProbe(bytes, offset, info);
    if (answer !== undefined) {
      this.#connection?.sendPacket(answer, 0, answer.length);
      return;
    }
    this.#counters.countOut(length);
    this.#tun.queue(bytes, offset, length, undefined);
  }

  #configure(configuration: TunnelConfiguration, server: string): void {
    this.#own = new PrefixList(configuration.addresses.map(parsePrefix));
    try {
      this.#configuration?.apply(configuration, server);
    } catch (error) {
      if (!(error instanceof IpCommandError)) throw error;
      // The host's network may allow it later, or the node may give us something else.
      this.#connection?.giveUp(`the interface cannot be set up: ${error.message}`);
      return;
    }
    this.#report({ type: 'configured', configuration });
  }

  #ended(reason: string): void {
    this.#connection = undefined;
    this.report();
    this.#report({ type: 'ended', reason });
  }
}
