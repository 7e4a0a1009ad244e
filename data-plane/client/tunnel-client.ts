import { inspectPacket } from '../ip/packet.ts';
import { createPacketInfo } from '../ip/packet-info.ts';
import type { LoopTurn } from '../packet-thread/packet-loop.ts';
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

/** Packets taken from the TUN device before what they became is sent. */
const TUN_BATCH = 64;
const PACKET_BYTES = 65_536;

/** The client's packet thread: one TUN device, and one tunnel after the other. */
export class TunnelClient implements LoopTurn {
  readonly #report: (report: ClientThreadReport) => void;
  readonly #addSource: (fd: number, drain: () => boolean) => void;
  readonly #tun: TunDevice;
  readonly #sockets = new Map<4 | 6, UdpSocket>();
  readonly #counters = new TrafficCounters();
  readonly #packet = new Uint8Array(PACKET_BYTES);
  readonly #info = createPacketInfo();
  #configuration: TunConfiguration | undefined;
  #connection: ClientConnection | undefined;

  constructor(
    options: ClientThreadOptions,
    report: (report: ClientThreadReport) => void,
    addSource: (fd: number, drain: () => boolean) => void,
  ) {
    this.#report = report;
    this.#addSource = addSource;
    this.#tun = TunDevice.open({ name: options.tun, mtu: options.mtu });
    this.#tun.up();
    addSource(this.#tun.fd, () => this.#receiveTun());
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
      this.#addSource(bound.fd, () => this.#receiveUdp(bound));
      socket = bound;
    }
    return socket;
  }

  #receiveUdp(socket: UdpSocket): boolean {
    const taken = socket.receive((bytes, offset, length, peer) =>
      this.#connection?.receiveUdp(bytes, offset, length, peer),
    );
    this.#connection?.processEvents();
    return taken > 0;
  }

  #receiveTun(): boolean {
    for (let i = 0; i < TUN_BATCH; i++) {
      const length = this.#tun.read(this.#packet);
      if (length === 0) return false;
      if (inspectPacket(this.#packet, 0, length, this.#info) !== 'ok') continue;
      if (this.#connection?.sendPacket(this.#packet, length) === true) this.#counters.countIn(length);
    }
    this.#connection?.endTurn();
    return true;
  }

  #receivePacket(bytes: Uint8Array, offset: number, length: number): void {
    if (inspectPacket(bytes, offset, length, this.#info) !== 'ok') return;
    const answer = answerProbe(bytes, offset, this.#info);
    if (answer !== undefined) this.#connection?.sendPacket(answer, answer.length);
    else if (this.#tun.write(bytes, offset, length)) this.#counters.countOut(length);
  }

  #configure(configuration: TunnelConfiguration, server: string): void {
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
