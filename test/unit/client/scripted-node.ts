import { ClientConnection } from '../../../data-plane/client/client-connection.ts';
import type { TunnelConfiguration } from '../../../data-plane/client/client-messages.ts';
import { encodeAddressRequest } from '../../../data-plane/masque/address-request.ts';
import type { LoopSource, LoopSources } from '../../../data-plane/packet-thread/packet-loop.ts';
import type { QuicCore } from '../../../data-plane/quic/quic-core.ts';
import { QuicEndpoint } from '../../../data-plane/quic/quic-endpoint.ts';
import { UdpSocket } from '../../../data-plane/udp/udp-socket.ts';
import { parsePrefix } from '../../../shared/ip/prefix.ts';
import type { TestCertificate } from '../../support/test-certificate.ts';
import { waitFor } from '../../support/wait-for.ts';
import { CONTROL_WITH_SETTINGS, concat, frame, headers } from '../http3/recording.ts';

const TIMEOUT_MS = 10_000;
const CONTROL_STREAM = 3;
const ANY_IPV4 = parsePrefix('0.0.0.0/32');
export const REQUEST_STREAM = 0;

export interface ScriptOptions {
  readonly url?: string;
  /** PEM of the authority that the client trusts; that of the certificate by default. */
  readonly ca?: string;
  /** Right after the handshake; the control stream with its SETTINGS by default. */
  readonly onHandshake?: (node: ScriptedNode) => void;
  /** Where the client goes; to the node by default. */
  readonly serverAddress?: string;
  /** That of the node. */
  readonly core?: QuicCore;
}

/** Our client over real sockets of this machine, and a node that sends it, byte for byte, what the test says. */
export class ScriptedNode {
  readonly client: ClientConnection;
  readonly configured: TunnelConfiguration[] = [];
  readonly packets: Buffer[] = [];
  /** How the attempt ended, in the client's words. */
  readonly ends: string[] = [];
  /** What came of the client, by stream. */
  readonly received = new Map<number, Uint8Array>();
  /** Codes of streams that the client reset. */
  readonly resets = new Map<number, number>();
  readonly datagrams: Buffer[] = [];
  /** The code with which the client closed the connection. */
  closed: number | undefined;
  readonly #far = UdpSocket.bind('127.0.0.1:0');
  readonly #server: QuicEndpoint;
  /** What the client's loop would wait for. */
  readonly #sources = new Map<number, LoopSource>();
  #connection = 0;
  #nextWish = 1n;

  constructor(pem: TestCertificate, script: ScriptOptions = {}) {
    const { url = 'https://node-a.test/', ca = pem.ca, onHandshake } = script;
    this.#server = new QuicEndpoint(
      { role: 'server', cert: pem.cert, key: pem.key, localAddress: this.#far.localAddress.text, maxConnections: 10 },
      {
        onConnection: () => {},
        onHandshakeComplete: (connection) => {
          this.#connection = connection;
          if (onHandshake === undefined) this.send(CONTROL_STREAM, CONTROL_WITH_SETTINGS);
          else onHandshake(this);
        },
        onStreamData: (_c, streamId, bytes) =>
          this.received.set(streamId, concat(this.received.get(streamId) ?? new Uint8Array(0), bytes)),
        onStreamReset: (_c, streamId, code) => this.resets.set(streamId, code),
        onDatagram: (_c, bytes, offset, length) =>
          this.datagrams.push(Buffer.from(bytes.subarray(offset, offset + length))),
        onClosed: (_c, code) => {
          this.closed = code;
        },
      },
      () => {},
      script.core,
    );
    const serverAddress = script.serverAddress ?? this.#far.localAddress.text;
    const options = { url, token: 'token', ca, certificate: undefined, serverAddress };
    const sources: LoopSources = {
      add: (fd, source) => this.#sources.set(fd, source),
      remove: (fd) => this.#sources.delete(fd),
      watchWritable: () => {},
    };
    this.client = new ClientConnection(options, sources, {
      onReady: () => this.client.sendRequest(),
      onBatchEnd: () => {},
      onConfigured: (configuration) => this.configured.push(configuration),
      onPacket: (bytes, offset, length) => this.packets.push(Buffer.from(bytes.subarray(offset, offset + length))),
      onEnded: ({ reason }) => this.ends.push(reason),
    });
  }

  /** Until the request has come; then its answer is sent, unless it is to be none. */
  async request(status?: number): Promise<void> {
    await this.until(() => this.received.has(REQUEST_STREAM), 'the request');
    if (status !== undefined) this.send(REQUEST_STREAM, headers([[':status', String(status)]]));
  }

  send(streamId: number, bytes: Uint8Array, fin = false): void {
    this.#server.sendStream(this.#connection, streamId, bytes, fin);
  }

  /** Capsules, or a part of one, in a DATA frame of the request stream. */
  content(bytes: Uint8Array, fin = false): void {
    this.send(REQUEST_STREAM, frame(0x00, bytes), fin);
  }

  reset(streamId: number, code: number): void {
    this.#server.resetStream(this.#connection, streamId, code);
  }

  datagram(bytes: Uint8Array): void {
    this.#server.datagramTarget.set(bytes, this.#server.datagramOffset);
    this.#server.sendDatagram(this.#connection, bytes.length);
  }

  close(code: number, reason: string): void {
    this.#server.closeConnection(this.#connection, code, reason);
  }

  /** Carries packets to and fro until `done`. */
  until(done: () => unknown, what: string): Promise<unknown> {
    return waitFor(
      () => {
        if (this.#server.timeoutMs() === 0) this.#server.onTimeout();
        this.#far.receive((bytes, offset, length, peer) => this.#server.receive(bytes, offset, length, peer.text));
        this.#server.processEvents();
        this.#server.flush((bytes, offset, length, peer) =>
          this.#far.queue(bytes, offset, length, this.#far.peers.fromText(peer)),
        );
        this.#far.flush();
        if (this.client.timeoutMs() === 0) this.client.onTimeout();
        for (const source of this.#sources.values()) source.drain();
        this.client.endTurn();
        return done();
      },
      { timeoutMs: TIMEOUT_MS, intervalMs: 2, what },
    );
  }

  /** How the attempt ended: the client's words, and the code that the node was told. */
  async end(): Promise<{ reason: string; code: string }> {
    await this.until(() => this.ends.length > 0 && this.closed !== undefined, 'the end of the attempt');
    return { reason: this.ends[0] ?? '', code: (this.closed ?? 0).toString(16) };
  }

  /** Everything before it has been handled by the client when its answer to this is here. */
  async settled(): Promise<void> {
    const before = this.received.get(REQUEST_STREAM)?.length ?? 0;
    this.content(encodeAddressRequest([{ requestId: this.#nextWish++, prefix: ANY_IPV4 }]));
    await this.until(() => (this.received.get(REQUEST_STREAM)?.length ?? 0) > before, 'the answer to a wish');
  }
  release(): void {
    this.client.close();
    this.#far.close();
  }
}
