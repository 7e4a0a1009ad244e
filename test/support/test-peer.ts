import { KEEPALIVE_INTERVAL_MS } from '../../data-plane/client/client-tunnel.ts';
import { datagramPayloadOffset } from '../../data-plane/http3/datagram.ts';
import { H3_NO_ERROR } from '../../data-plane/http3/error-codes.ts';
import { Http3Connection } from '../../data-plane/http3/http3-connection.ts';
import type { Http3Events } from '../../data-plane/http3/http3-endpoint.ts';
import type { FieldLine } from '../../data-plane/http3/qpack/field-line.ts';
import { createEchoInfo, echoPacketBytes, readEcho, writeEcho } from '../../data-plane/ip/icmp-echo.ts';
import { inspectPacket } from '../../data-plane/ip/packet.ts';
import { createPacketInfo } from '../../data-plane/ip/packet-info.ts';
import { buildConnectIpRequest } from '../../data-plane/masque/build-connect-ip-request.ts';
import { QuicEndpoint } from '../../data-plane/quic/quic-endpoint.ts';
import { http3OverQuic } from '../../data-plane/tunnel/http3-over-quic.ts';
import { sendPacket } from '../../data-plane/tunnel/send-packet.ts';
import { UdpSocket } from '../../data-plane/udp/udp-socket.ts';
import { addressToBytes, parseAddress } from '../../shared/ip/address.ts';
import { ClientEnd } from './client-end.ts';
import type { TunnelEnd } from './tunnel-end.ts';
import { waitFor } from './wait-for.ts';

/** Between two looks at the socket. */
const TURN_MS = 3;
const TIMEOUT_MS = 15_000;
const PING_IDENTIFIER = 0x7e57;

export interface PeerTarget {
  /** `ip:port` of the node. */
  readonly server: string;
  readonly serverName: string;
  /** PEM. */
  readonly ca: string;
  /** IP address to send from. */
  readonly from: string;
}

/** A peer of a node that does what a test tells it, without a TUN device and, if so wanted, without HTTP/3. */
export class TestPeer extends ClientEnd implements Http3Events, TunnelEnd {
  readonly http3: Http3Connection;
  /** Final responses by stream. */
  readonly responses = new Map<number, { readonly status: number; readonly fields: readonly FieldLine[] }>();
  /** Codes of reset streams. */
  readonly resets = new Map<number, number>();
  ended = false;
  /** The first request that will not be served, each time that the node said so. */
  readonly goaways: number[] = [];
  /** How the connection ended, as the node said it. */
  closed: { readonly code: number; readonly reason: string } | undefined;
  /** Bytes that came on any stream. */
  onStream: (streamId: number, bytes: Uint8Array) => void = () => {};
  readonly quic: QuicEndpoint;
  readonly #target: PeerTarget;
  #socket: UdpSocket;
  #next = 0;
  #shakenHands = false;
  #timer: NodeJS.Timeout | undefined;
  #dueMs = 0;
  #heardMs = 0;

  private constructor(target: PeerTarget, http3: boolean) {
    super();
    this.#target = target;
    this.#socket = UdpSocket.bind(`${target.from}:0`);
    const { server: serverAddress, serverName, ca } = target;
    this.quic = new QuicEndpoint(
      { role: 'client', localAddress: this.#socket.localAddress.text, serverAddress, serverName, ca },
      {
        onConnection: () => {},
        onHandshakeComplete: () => {
          this.#shakenHands = true;
          if (http3) this.http3.start();
        },
        onStreamData: (_c, streamId, bytes, fin) => {
          this.onStream(streamId, bytes);
          this.http3.receiveStream(streamId, bytes, fin);
        },
        onStreamReset: (_c, streamId, code) => {
          this.resets.set(streamId, code);
          this.http3.streamReset(streamId, code);
        },
        onDatagram: (_c, bytes, offset, length) =>
          this.receivePayload(bytes, datagramPayloadOffset(bytes, offset), offset + length),
        onClosed: (_c, code, reason) => {
          this.closed = { code, reason };
        },
      },
      () => {},
    );
    this.http3 = new Http3Connection(
      'client',
      http3OverQuic(this.quic, 0, () => this.#next++ * 4),
      this,
    );
  }

  /** Has a core and a socket, and sends nothing yet. */
  static prepare(target: PeerTarget): TestPeer {
    return new TestPeer(target, true);
  }

  /** Connects; without `http3` no stream is opened, so that the test writes all of them. */
  static async connect(target: PeerTarget, http3 = true): Promise<TestPeer> {
    const peer = new TestPeer(target, http3);
    await peer.#connect(http3);
    return peer;
  }

  /** Connects and opens a tunnel. Throws RefusedError. */
  static async open(target: PeerTarget, token: string): Promise<TestPeer> {
    const peer = TestPeer.prepare(target);
    await peer.open(token);
    return peer;
  }

  /** The same with a peer that was prepared. Throws RefusedError, and the peer is closed then. */
  async open(token: string): Promise<void> {
    await this.#connect(true);
    const status = await this.request(token);
    if (status !== 200) {
      this.close();
      throw new RefusedError(status);
    }
    await this.until(() => this.addresses.length > 0 && this.routes !== undefined, 'the assignments');
  }

  async #connect(http3: boolean): Promise<void> {
    // A peer that a failed test forgot must not keep the test's process alive.
    this.pace(TURN_MS);
    await this.until(() => this.#shakenHands && (!http3 || this.http3.peerSettings !== undefined), 'the handshake');
  }

  /** What came in is handled, what is ready goes out. */
  turn(): void {
    const peer = this.#socket.peers.fromText(this.#target.server);
    let came = false;
    while (this.#socket.receive((bytes, offset, length) => this.quic.receive(bytes, offset, length, peer.text)) > 0) {
      came = true;
    }
    if (came) this.#heardMs = performance.now();
    const due = performance.now() >= this.#dueMs;
    // Most turns of most peers find nothing, and hundreds of them share a process.
    if (!came && !due && !this.quic.hasWork) return;
    if (due) this.quic.onTimeout();
    this.quic.processEvents();
    if (this.quic.flushDueMs > performance.now()) return;
    this.quic.flush((bytes, offset, length) => this.#socket.queue(bytes, offset, length, peer));
    this.#socket.flush();
    const timeoutMs = this.quic.timeoutMs();
    this.#dueMs = timeoutMs < 0 ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
  }

  /** `ip:port` that it sends from. */
  get localAddress(): string {
    return this.#socket.localAddress.text;
  }

  /** Goes on from another port, as behind a NAT that forgot the old one. */
  rebind(): void {
    this.#socket.close();
    this.#socket = UdpSocket.bind(`${this.#target.from}:0`);
  }

  /** Looks at the socket this often from now on: a peer that only waits need not be as quick as one that acts. */
  pace(intervalMs: number): void {
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.turn(), intervalMs).unref();
  }

  /** What our client does every KEEPALIVE_INTERVAL_MS while its tunnel is open. */
  keepAlive(): void {
    const silentMs = performance.now() - this.#heardMs;
    if (this.#timer === undefined || this.closed !== undefined || silentMs < KEEPALIVE_INTERVAL_MS) return;
    this.quic.ping(0);
  }

  /** The status of a CONNECT-IP request of this token; 0 when its stream was reset instead. */
  async request(token: string | undefined, changes: { path?: string; protocol?: string } = {}): Promise<number> {
    const request = buildConnectIpRequest(`https://${this.#target.serverName}`, token);
    const streamId = this.http3.sendRequest({ ...request, ...changes });
    await this.until(() => this.responses.has(streamId) || this.resets.has(streamId), 'an answer');
    return this.responses.get(streamId)?.status ?? 0;
  }

  /** Bytes on any stream, as they are. */
  raw(streamId: number, bytes: Uint8Array, fin = false): void {
    this.quic.sendStream(0, streamId, bytes, fin);
  }

  /** A QUIC datagram, as it is. */
  datagram(bytes: Uint8Array): void {
    this.quic.datagramTarget.set(bytes, this.quic.datagramOffset);
    this.quic.sendDatagram(0, bytes.length);
  }

  /** An IP packet through the tunnel of the first stream. */
  packet(bytes: Uint8Array): boolean {
    return sendPacket(this.quic, this.http3, { connection: 0, streamId: 0 }, bytes, 0, bytes.length);
  }

  /** Pings through the tunnel until an answer comes: what was sent before has arrived then, or never will. */
  async ping(address: string): Promise<void> {
    const destination = addressToBytes(parseAddress(address));
    const source = this.addresses
      .map((text) => addressToBytes(parseAddress(text)))
      .find((a) => a.length === destination.length);
    if (source === undefined) throw new Error(`no address of the family of ${address}`);
    const request = new Uint8Array(echoPacketBytes(source.length, 0));
    const info = createPacketInfo();
    const echo = createEchoInfo();
    const before = this.onPacket;
    let answered = false;
    this.onPacket = (packet) => {
      if (inspectPacket(packet, 0, packet.length, info) !== 'ok' || readEcho(packet, 0, info, echo) !== 'reply')
        before(packet);
      else answered ||= echo.identifier === PING_IDENTIFIER;
    };
    let sequence = 0;
    const send = () => {
      const message = {
        source,
        destination,
        identifier: PING_IDENTIFIER,
        sequence: sequence++,
        payload: new Uint8Array(0),
      };
      writeEcho(request, 0, { kind: 'request', ...message });
      this.packet(request);
      return answered;
    };
    await waitFor(send, { timeoutMs: TIMEOUT_MS, intervalMs: 100, what: `an answer to a ping of ${address}` });
    this.onPacket = before;
  }

  until(done: () => unknown, what: string, timeoutMs = TIMEOUT_MS): Promise<unknown> {
    return waitFor(done, { timeoutMs, intervalMs: TURN_MS, what });
  }

  /** How the node closed the connection: `0x105`. */
  async closeCode(): Promise<string> {
    await this.until(() => this.closed, 'the end of the connection');
    return `0x${this.closed?.code.toString(16)}`;
  }

  /** From here on nothing is sent or heard, and the node is told nothing. */
  vanish(): void {
    clearInterval(this.#timer);
    this.#socket.close();
    this.#timer = undefined;
  }

  /** Says goodbye. */
  close(reason = ''): void {
    if (this.#timer === undefined) return;
    if (this.closed === undefined) this.quic.closeConnection(0, H3_NO_ERROR, reason);
    this.turn();
    this.vanish();
  }

  onSettings(): void {}
  onRequest(): void {}
  onResponse(streamId: number, status: number, fields: readonly FieldLine[]): void {
    this.responses.set(streamId, { status, fields });
  }
  onData(_streamId: number, bytes: Uint8Array): void {
    this.receiveContent(bytes);
  }
  onStreamEnd(): void {
    this.ended = true;
  }
  onStreamReset(): void {}
  onGoaway(firstRefused: number): void {
    this.goaways.push(firstRefused);
  }
  onConnectionError(): void {}
}

export class RefusedError extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`the node answered ${status}`);
    this.status = status;
  }
}
