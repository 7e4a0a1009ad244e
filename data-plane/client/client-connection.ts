import { datagramPayloadOffset } from '../http3/datagram.ts';
import {
  H3_NO_ERROR,
  H3_REQUEST_CANCELLED,
  type Http3ConnectionError,
  type Http3StreamError,
  Http3UsageError,
} from '../http3/error-codes.ts';
import { Http3Connection } from '../http3/http3-connection.ts';
import type { Http3Events } from '../http3/http3-endpoint.ts';
import type { FieldLine } from '../http3/qpack/field-line.ts';
import type { Http3Settings } from '../http3/settings-frame.ts';
import { buildConnectIpRequest } from '../masque/build-connect-ip-request.ts';
import { readConnectIpResponse } from '../masque/connect-ip-response.ts';
import type { LoopSource, LoopSources } from '../packet-thread/packet-loop.ts';
import { isCoreTrap, QuicEndpoint, type QuicEvents } from '../quic/quic-endpoint.ts';
import { http3OverQuic } from '../tunnel/http3-over-quic.ts';
import { probeMaxPacketBytes } from '../tunnel/probe-max-packet.ts';
import { sendPacket } from '../tunnel/send-packet.ts';
import { ipv6MtuProblem, MIN_TUNNEL_MTU } from '../tunnel/tunnel-mtu.ts';
import type { SocketAddress } from '../udp/socket-address.ts';
import { UdpSocket } from '../udp/udp-socket.ts';
import type { ConnectOptions, TunnelConfiguration } from './client-messages.ts';
import {
  type ClientTunnel,
  type ClientTunnelEvents,
  CONNECT_TIMEOUT_MS,
  KEEPALIVE_INTERVAL_MS,
  SILENCE_TIMEOUT_MS,
} from './client-tunnel.ts';
import { certificateProblem, noNodeProblem, refusalProblem, SILENCE_PROBLEM, timeoutProblem } from './problems.ts';
import { TunnelContent } from './tunnel-content.ts';

export interface ClientConnectionEvents extends ClientTunnelEvents {
  /** The request could be sent now: `sendRequest` does it. */
  onReady(): void;
}

/** A client has one connection at a time, and one request on it. */
const CONNECTION = 0;
const REQUEST_STREAM = 0;
/** TLS alerts about a certificate, as QUIC carries them: bad, unsupported, revoked, expired, unknown, of an unknown authority (RFC 8446 6, RFC 9001 4.8). */
const CERTIFICATE_ERRORS: ReadonlySet<number> = new Set([0x12a, 0x12b, 0x12c, 0x12d, 0x12e, 0x130]);

type State = 'handshake' | 'request' | 'open' | 'ended';

/** One QUIC connection to a node with one CONNECT-IP tunnel on it, from the first packet to the end, and the socket that it has to itself. */
export class ClientConnection implements ClientTunnel, LoopSource, Http3Events {
  readonly #options: ConnectOptions;
  readonly #sources: LoopSources;
  readonly #socket: UdpSocket;
  readonly #server: SocketAddress;
  readonly #events: ClientConnectionEvents;
  readonly #quic: QuicEndpoint;
  readonly #http3: Http3Connection;
  readonly #content: TunnelContent;
  readonly #dueMs = performance.now() + CONNECT_TIMEOUT_MS;
  readonly #path = { connection: CONNECTION, streamId: REQUEST_STREAM };
  readonly #queue = (bytes: Uint8Array, offset: number, length: number): void =>
    this.#socket.queue(bytes, offset, length, this.#server);
  // Made once: it runs for every datagram.
  readonly #receiveUdp = (bytes: Uint8Array, offset: number, length: number, peer: SocketAddress): void => {
    if (peer.text !== this.#server.text) return;
    this.#heard = true;
    this.#quic.receive(bytes, offset, length, peer.text);
  };
  #heard = true;
  #heardMs = 0;
  #state: State = 'handshake';
  /** The tunnel has an IPv6 address, and it is not known yet whether the node takes what that needs. */
  #mtuUnknown = false;
  #processing = false;

  constructor(options: ConnectOptions, sources: LoopSources, events: ClientConnectionEvents) {
    this.#options = options;
    this.#sources = sources;
    const socket = UdpSocket.bind(options.serverAddress.startsWith('[') ? '[::]:0' : '0.0.0.0:0');
    this.#socket = socket;
    this.#server = socket.peers.fromText(options.serverAddress);
    this.#events = events;
    this.#quic = new QuicEndpoint(
      {
        role: 'client',
        localAddress: socket.localAddress.text,
        serverAddress: options.serverAddress,
        serverName: new URL(options.url).hostname.replace(/^\[|\]$/g, ''),
        ca: options.ca,
        ...options.certificate,
      },
      this.#quicEvents(),
      () => {},
    );
    const transport = http3OverQuic(this.#quic, CONNECTION, () => REQUEST_STREAM);
    this.#http3 = new Http3Connection('client', transport, this);
    this.#content = new TunnelContent(this.#server.host, {
      onConfigured: (configuration) => this.#configured(configuration),
      onPacket: events.onPacket,
      sendCapsule: (capsule) => this.#http3.sendData(REQUEST_STREAM, capsule),
    });
    sources.add(socket.fd, this);
    socket.reportRefusals(true);
  }

  // --- from the packet loop

  drain(): void {
    const taken = this.#socket.receive(this.#receiveUdp);
    if (taken === 0 && this.#state === 'handshake') this.#checkRefusal();
    else this.#processEvents();
    this.#events.onBatchEnd();
  }

  endTurn(): void {
    if (this.#state === 'ended') return;
    if (this.#processEvents() && this.#quic.flushDueMs <= performance.now()) this.#flush();
  }

  timeoutMs(): number {
    const untilFlushMs = Math.max(0, this.#quic.flushDueMs - performance.now());
    const timeoutMs = this.#quic.timeoutMs();
    if (!Number.isFinite(untilFlushMs)) return timeoutMs;
    return timeoutMs < 0 ? untilFlushMs : Math.min(timeoutMs, untilFlushMs);
  }

  onTimeout(): void {
    if (this.#quic.timeoutMs() === 0) this.#quic.onTimeout();
  }

  keepAlive(): void {
    const silentMs = performance.now() - this.#heardMs;
    if (this.#state === 'open' && silentMs >= KEEPALIVE_INTERVAL_MS) this.#quic.ping(CONNECTION);
  }

  /** Ends what has waited for too long. Silence in spite of pings means that the node is gone, or knows us no more. */
  sweep(nowMs: number): void {
    if (this.#heard) this.#heardMs = nowMs;
    this.#heard = false;
    if (this.#state === 'open') {
      if (nowMs - this.#heardMs > SILENCE_TIMEOUT_MS) this.#end(SILENCE_PROBLEM);
      else if (this.#mtuUnknown) this.#checkMtu();
      return;
    }
    if (nowMs < this.#dueMs) return;
    this.#end(timeoutProblem(this.#state === 'handshake' ? 'QUIC handshake' : 'answer to the request'));
  }

  /** Sends the request; to be called once, after `onReady`. */
  sendRequest(): void {
    if (this.#state !== 'request') return;
    try {
      this.#http3.sendRequest(buildConnectIpRequest(this.#options.url, this.#options.token));
    } catch (error) {
      if (!(error instanceof Http3UsageError)) throw error;
      this.#end(error.message);
    }
  }

  /** The core's queue is not to be seen from here. */
  get hasRoom(): boolean {
    return true;
  }

  sendPacket(bytes: Uint8Array, offset: number, length: number): boolean {
    return this.#state === 'open' && sendPacket(this.#quic, this.#http3, this.#path, bytes, offset, length);
  }

  giveUp(reason: string): void {
    this.#end(reason);
  }

  close(): void {
    if (this.#state === 'ended') return;
    this.#http3.abortStream(REQUEST_STREAM, H3_REQUEST_CANCELLED);
    this.#http3.close(H3_NO_ERROR, 'client stops');
    this.#quic.processEvents();
    this.#leave();
  }

  explain(error: unknown): string | undefined {
    if (!isCoreTrap(error)) return undefined;
    this.#state = 'ended';
    this.#releaseSocket();
    return 'the QUIC core aborted';
  }

  // --- HTTP/3

  onSettings({ enableConnectProtocol, h3Datagram }: Http3Settings): void {
    if (!enableConnectProtocol || !h3Datagram) {
      this.#end(noNodeProblem(enableConnectProtocol ? 'HTTP datagrams' : 'extended CONNECT'));
      return;
    }
    this.#events.onReady();
  }

  onRequest(): void {}

  onResponse(_streamId: number, status: number, fields: readonly FieldLine[]): void {
    const answer = readConnectIpResponse(status, fields);
    if (answer.kind === 'tunnel') this.#state = 'open';
    else if (answer.kind === 'refused') this.#end(refusalProblem(answer.status));
    else this.#end(answer.reason, answer.resetCode);
  }

  onData(_streamId: number, bytes: Uint8Array): void {
    this.#content.push(bytes);
  }

  onStreamEnd(): void {
    this.#content.end();
    this.#end('the node ended the tunnel');
  }

  onStreamReset(_streamId: number, errorCode: number, error?: Http3StreamError): void {
    if (error === undefined) this.#end(`the node reset the tunnel (code 0x${errorCode.toString(16)})`);
    else this.#end(error.message, error.wireCode);
  }

  /** A tunnel that is open lives until the node ends it; a request that the node will not serve is not waited for. */
  onGoaway(firstRefused: number): void {
    if (this.#state !== 'open' && firstRefused <= REQUEST_STREAM) this.#end('the node goes away');
  }

  onConnectionError(error: Http3ConnectionError): void {
    this.#end(error.message);
  }

  #configured(configuration: TunnelConfiguration): void {
    this.#mtuUnknown = configuration.addresses.some((address) => address.includes(':'));
    if (this.#mtuUnknown && !this.#checkMtu()) return;
    this.#events.onConfigured(configuration, this.#server.host);
  }

  /** False when the node takes less than IPv6 needs, which ended the tunnel (RFC 9484 7.2). */
  #checkMtu(): boolean {
    const taken = probeMaxPacketBytes(this.#quic, this.#http3, this.#path, MIN_TUNNEL_MTU);
    if (taken === undefined) return true;
    this.#mtuUnknown = false;
    const problem = ipv6MtuProblem(taken);
    if (problem !== undefined) this.#end(problem, H3_REQUEST_CANCELLED);
    return problem === undefined;
  }

  #quicEvents(): QuicEvents {
    return {
      onConnection: () => {},
      onHandshakeComplete: () => {
        this.#state = 'request';
        // From here on ICMP, which anybody can send, ends nothing.
        this.#socket.reportRefusals(false);
        this.#http3.start();
      },
      onStreamData: (_connection, streamId, bytes, fin) => this.#http3.receiveStream(streamId, bytes, fin),
      onStreamReset: (_connection, streamId, code) => this.#http3.streamReset(streamId, code),
      onDatagram: (_connection, bytes, offset, length) => {
        const end = offset + length;
        if (this.#http3.datagramStream(bytes, offset, end) !== REQUEST_STREAM) return;
        if (this.#state === 'open') this.#content.receivePayload(bytes, datagramPayloadOffset(bytes, offset), end);
      },
      onClosed: (_connection, code, reason) => this.#end(this.#closeProblem(code, reason)),
    };
  }

  #closeProblem(code: number, reason: string): string {
    if (this.#state === 'handshake' && CERTIFICATE_ERRORS.has(code)) {
      return certificateProblem(this.#options.serverAddress);
    }
    return `the connection closed: ${reason || 'no reason given'} (code 0x${code.toString(16)})`;
  }

  /** An ICMP error may have made the socket readable: no answer will come. */
  #checkRefusal(): void {
    const { refusal, received, sent } = this.#socket;
    if (refusal !== undefined) this.#end(`UDP to ${this.#options.serverAddress} is refused (${refusal})`);
    // Another error, e.g. about the MTU: as long as the kernel keeps it, the socket stays readable.
    else if (received.errors + sent.errors > 0) this.#socket.reportRefusals(false);
  }

  /** False when they brought the end. */
  #processEvents(): boolean {
    this.#processing = true;
    this.#quic.processEvents();
    this.#processing = false;
    if (this.#state !== 'ended') return true;
    this.#leave();
    return false;
  }

  #flush(): void {
    this.#quic.flush(this.#queue);
    this.#socket.flush();
  }

  /** `code` is what the node is told: with one tunnel a connection, an error of the stream ends both. */
  #end(reason: string, code = H3_NO_ERROR): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#content.stop();
    this.#http3.close(code, '');
    // In the middle of events the core takes nothing, and so the node would not hear of it.
    if (!this.#processing) this.#leave();
    this.#events.onEnded({ reason });
  }

  #leave(): void {
    this.#state = 'ended';
    this.#flush();
    this.#releaseSocket();
  }

  /** Once: the kernel gives the number of the descriptor to the next that is opened. */
  #releaseSocket(): void {
    this.#sources.remove(this.#socket.fd);
    this.#socket.close();
  }
}
