import { parsePrefix } from '../../shared/ip/prefix.ts';
import { PrefixList } from '../ip/prefix-list.ts';
import type { LoopSources, LoopTurn } from '../packet-thread/packet-loop.ts';
import { IpCommandError } from '../tun/ip-command.ts';
import { TunDevice } from '../tun/tun-device.ts';
import { answerProbe } from '../tunnel/echo-probe.ts';
import { TrafficCounters } from '../tunnel/traffic-counters.ts';
import { parseSocketAddress } from '../udp/socket-address.ts';
import { ChannelTunnel } from './channel-tunnel.ts';
import { ClientConnection } from './client-connection.ts';
import type {
  ClientThreadCommand,
  ClientThreadOptions,
  ClientThreadReport,
  TunnelConfiguration,
  TunnelEnd,
} from './client-messages.ts';
import type { ClientTunnel, ClientTunnelEvents } from './client-tunnel.ts';
import { mayEnter, mayLeave, packetInfo } from './packet-checks.ts';
import { TunConfiguration } from './tun-configuration.ts';

/** Packets taken from the TUN device before what they became is sent, and those of one read beyond them. */
const TUN_BATCH = 32;

/** The client's packet thread: one TUN device, and one tunnel after the other. */
export class TunnelClient implements LoopTurn {
  readonly #report: (report: ClientThreadReport) => void;
  readonly #sources: LoopSources;
  readonly #tun: TunDevice;
  readonly #counters = new TrafficCounters();
  #own = new PrefixList([]);
  // Made once: it runs for every packet.
  readonly #onTunPacket = (bytes: Uint8Array, offset: number, length: number): void =>
    this.#sendPacket(bytes, offset, length);
  readonly #events: ClientTunnelEvents = {
    onConfigured: (configuration, server) => this.#configure(configuration, server),
    onPacket: (bytes, offset, length) => this.#receivePacket(bytes, offset, length),
    onBatchEnd: () => this.#tun.flush(),
    onEnded: (end) => this.#ended(end),
  };
  readonly #configuration: TunConfiguration;
  #attempt = 0;
  /** The tunnel, or the attempt at one over HTTP/3. */
  #tunnel: ClientTunnel | undefined;
  #http3: ClientConnection | undefined;

  constructor(options: ClientThreadOptions, report: (report: ClientThreadReport) => void, sources: LoopSources) {
    this.#report = report;
    this.#sources = sources;
    const { tun: name, mtu, tunOffload: offload, routes } = options;
    this.#tun = TunDevice.open({ name, mtu, offload }, (_owner, packets, bytes) =>
      this.#counters.uncountOut(packets, bytes),
    );
    this.#tun.up();
    this.#configuration = new TunConfiguration(this.#tun, routes);
    sources.add(this.#tun.fd, { drain: () => this.#tun.fill() });
  }

  get tunName(): string {
    return this.#tun.name;
  }

  command(command: Exclude<ClientThreadCommand, { type: 'stop' }>): void {
    switch (command.type) {
      case 'prepare':
        this.#attempt = command.attempt;
        this.#prepare(parseSocketAddress(command.serverAddress).host);
        return;
      case 'connectHttp3':
        this.#http3 = new ClientConnection(command.options, this.#sources, {
          ...this.#events,
          onReady: () => this.#report({ type: 'http3Ready', attempt: this.#attempt }),
        });
        this.#tunnel = this.#http3;
        return;
      case 'requestHttp3':
        this.#http3?.sendRequest();
        return;
      case 'closeHttp3':
        this.#http3?.close();
        this.#forget();
        return;
      case 'attach': {
        const { host } = parseSocketAddress(command.serverAddress);
        this.#tunnel = new ChannelTunnel(command.fd, host, this.#sources, this.#events);
        return;
      }
      default:
        command satisfies never;
    }
  }

  endTurn(): void {
    this.#sendPackets();
    this.#tunnel?.endTurn();
    this.#tun.flush();
  }

  timeoutMs(): number {
    if (this.#mayLeave) return 0;
    return this.#tunnel?.timeoutMs() ?? -1;
  }

  onTimeout(): void {
    this.#tunnel?.onTimeout();
  }

  recover(error: unknown): void {
    const reason = this.#tunnel?.explain(error);
    if (reason === undefined) throw error;
    this.#ended({ reason });
  }

  keepAlive(): void {
    this.#tunnel?.keepAlive();
  }

  sweep(nowMs: number): void {
    this.#tunnel?.sweep(nowMs);
  }

  report(): void {
    this.#report({ type: 'counters', totals: this.#counters.totals() });
  }

  close(): void {
    this.#tunnel?.close();
    this.#tun.flush();
    this.report();
    this.#configuration.release();
    this.#tun.release();
  }

  #prepare(server: string): void {
    try {
      this.#configuration.prepare(server);
    } catch (error) {
      if (!(error instanceof IpCommandError)) throw error;
      this.#report({ type: 'prepared', attempt: this.#attempt, problem: `no way to the node: ${error.message}` });
      return;
    }
    this.#report({ type: 'prepared', attempt: this.#attempt });
  }

  /** Packets wait and may leave. */
  get #mayLeave(): boolean {
    return this.#tun.received.hasWaiting && this.#tunnel?.hasRoom !== false;
  }

  #sendPackets(): void {
    for (let packets = 0; packets < TUN_BATCH && this.#mayLeave; ) {
      packets += this.#tun.receive(this.#onTunPacket);
    }
  }

  #sendPacket(bytes: Uint8Array, offset: number, length: number): void {
    if (!mayLeave(bytes, offset, length)) return;
    if (this.#tunnel?.sendPacket(bytes, offset, length) === true) this.#counters.countIn(length);
  }

  #receivePacket(bytes: Uint8Array, offset: number, length: number): void {
    if (!mayEnter(this.#own, bytes, offset, length)) return;
    const answer = answerProbe(bytes, offset, packetInfo);
    if (answer !== undefined) {
      this.#tunnel?.sendPacket(answer, 0, answer.length);
      return;
    }
    this.#counters.countOut(length);
    this.#tun.queue(bytes, offset, length, undefined);
  }

  #configure(configuration: TunnelConfiguration, server: string): void {
    this.#own = new PrefixList(configuration.addresses.map(parsePrefix));
    try {
      this.#configuration.apply(configuration, server);
    } catch (error) {
      if (!(error instanceof IpCommandError)) throw error;
      // The host's network may allow it later, or the node may give us something else.
      this.#tunnel?.giveUp(`the interface cannot be set up: ${error.message}`);
      return;
    }
    this.#report({ type: 'configured', attempt: this.#attempt, configuration });
  }

  #ended(end: TunnelEnd): void {
    const transport = this.#http3 === undefined ? 'http2' : 'http3';
    this.#forget();
    this.report();
    this.#report({ type: 'ended', attempt: this.#attempt, transport, ...end });
  }

  #forget(): void {
    this.#tunnel = undefined;
    this.#http3 = undefined;
  }
}
