import { datagramPayloadOffset } from '../../../data-plane/http3/datagram.ts';
import { Http3Connection } from '../../../data-plane/http3/http3-connection.ts';
import type { Http3Events } from '../../../data-plane/http3/http3-endpoint.ts';
import type { FieldLine } from '../../../data-plane/http3/qpack/field-line.ts';
import { LimitCounters } from '../../../data-plane/limits.ts';
import { buildConnectIpRequest } from '../../../data-plane/masque/build-connect-ip-request.ts';
import { CapsuleReader } from '../../../data-plane/masque/capsule-reader.ts';
import type { AcceptedRequest } from '../../../data-plane/masque/connect-ip-request.ts';
import { ipPacketOffset } from '../../../data-plane/masque/ip-datagram.ts';
import type { IpRoute } from '../../../data-plane/masque/route-advertisement.ts';
import type { QuicCore } from '../../../data-plane/quic/quic-core.ts';
import { QuicEndpoint } from '../../../data-plane/quic/quic-endpoint.ts';
import { DropCounters } from '../../../data-plane/tunnel/drop-counters.ts';
import { http3OverQuic } from '../../../data-plane/tunnel/http3-over-quic.ts';
import { sendPacket } from '../../../data-plane/tunnel/send-packet.ts';
import { ServerConnection } from '../../../data-plane/tunnel/server-connection.ts';
import type { ServerConnectionHost } from '../../../data-plane/tunnel/server-connection-host.ts';
import type { Tunnel } from '../../../data-plane/tunnel/tunnel.ts';
import type { AcceptedScope, ServerThreadReport } from '../../../data-plane/tunnel/tunnel-messages.ts';
import { parseSocketAddress } from '../../../data-plane/udp/socket-address.ts';
import type { Transport } from '../../../shared/events/node-events.ts';
import { formatPrefix } from '../../../shared/ip/prefix.ts';
import type { TestCertificate } from '../../support/test-certificate.ts';
import { waitFor } from '../../support/wait-for.ts';

const SERVER = '198.51.100.2:4433';
const CLIENT = '198.51.100.7:5555';
const NAME = 'node-a.test';
export const URL = `https://${NAME}:4433/`;
export const ADDRESSES = [
  { address: '10.99.0.7', nodeAddress: '10.99.0.1' },
  { address: 'fd00:99::7', nodeAddress: 'fd00:99::1' },
];
export const CONNECTION_ID = '0b1f7a52-54c0-4e0c-8a59-3f0d1a2b3c4d';

type Of<T extends ServerThreadReport['type']> = Extract<ServerThreadReport, { type: T }>;

/** The server around one connection: it notes what the connection asks, and answers when the test says so. */
export class RecordingHost implements ServerConnectionHost {
  readonly drops = new DropCounters();
  readonly limits = new LimitCounters();
  readonly advertiseRoutes = ['192.0.2.0/24', '2001:db8::/32', '10.99.0.0/16'];
  readonly tunnelMtu = 1400;
  /** Any. */
  readonly authorities: string[] = [];
  draining = false;
  readonly requests: { readonly id: number; readonly token: string | null }[] = [];
  /** What each of them asked for. */
  readonly scopes: Pick<AcceptedRequest, 'target' | 'protocol'>[] = [];
  /** Which addresses each of them would like. */
  readonly wishes: (readonly string[])[] = [];
  readonly transports: Transport[] = [];
  readonly abandoned: number[] = [];
  readonly failures: Of<'failed'>[] = [];
  readonly opened: string[] = [];
  /** The one that opened last. */
  tunnel: Tunnel | undefined;
  readonly closed: Of<'closed'>[] = [];
  readonly up: Buffer[] = [];

  requestTunnel(
    _connection: ServerConnection,
    { token, target, protocol }: AcceptedRequest,
    transport: Transport,
    wishedAddresses: readonly string[],
  ): number {
    this.transports.push(transport);
    this.wishes.push(wishedAddresses);
    this.requests.push({ id: this.requests.length + 1, token: token?.value ?? null });
    this.scopes.push({ target, protocol });
    return this.requests.length;
  }
  requestAbandoned(requestId: number): void {
    this.abandoned.push(requestId);
  }
  requestFailed(report: Of<'failed'>): void {
    this.failures.push(report);
  }
  tunnelOpened(tunnel: Tunnel, connectionId: string): void {
    this.tunnel = tunnel;
    this.opened.push(connectionId);
  }
  tunnelClosed(_tunnel: Tunnel, report: Of<'closed'>): void {
    this.closed.push(report);
  }
  forwardUp(_tunnel: Tunnel, bytes: Uint8Array, offset: number, length: number): void {
    this.up.push(Buffer.from(bytes.subarray(offset, offset + length)));
  }
}

/** A client with HTTP/3, which says what came in. Raw bytes go past it through `quic`. */
class Client implements Http3Events {
  readonly log: string[] = [];
  readonly down: Buffer[] = [];
  /** All bytes that came, and codes of resets, by stream. */
  readonly resets = new Map<number, number>();
  readonly received = new Map<number, Buffer>();
  /** What was advertised last. */
  routes: readonly IpRoute[] = [];
  readonly quic: QuicEndpoint;
  readonly http3: Http3Connection;
  readonly #capsules = new CapsuleReader({
    onAddressAssign: (assigned) =>
      this.log.push(
        `assigned ${assigned.map(({ requestId, prefix }) => `${requestId}=${formatPrefix(prefix)}`).join()}`,
      ),
    onAddressRequest: () => this.log.push('address request'),
    onRouteAdvertisement: (routes) => {
      this.routes = routes;
      this.log.push(`routes ${routes.length}`);
    },
    onDatagram: () => this.log.push('datagram capsule'),
  });
  #next = 0;

  constructor(ca: string, core: QuicCore | undefined) {
    this.quic = new QuicEndpoint(
      { role: 'client', localAddress: CLIENT, serverAddress: SERVER, serverName: NAME, ca },
      {
        onConnection: () => {},
        onHandshakeComplete: () => this.http3.start(),
        onStreamData: (_c, streamId, bytes, fin) => {
          this.received.set(streamId, Buffer.concat([this.received.get(streamId) ?? Buffer.alloc(0), bytes]));
          this.http3.receiveStream(streamId, bytes, fin);
        },
        onStreamReset: (_c, streamId, code) => {
          this.resets.set(streamId, code);
          this.http3.streamReset(streamId, code);
        },
        onDatagram: (_c, bytes, offset, length) => {
          const end = offset + length;
          const at = ipPacketOffset(bytes, datagramPayloadOffset(bytes, offset), end);
          if (at >= 0) this.down.push(Buffer.from(bytes.subarray(at, end)));
        },
        onClosed: (_c, code, reason) => this.log.push(`closed 0x${code.toString(16)} ${reason}`),
      },
      () => {},
      core,
    );
    this.http3 = new Http3Connection(
      'client',
      http3OverQuic(this.quic, 0, () => this.#next++ * 4),
      this,
    );
  }

  onSettings(): void {}
  onRequest(): void {}
  onResponse(streamId: number, status: number, fields: readonly FieldLine[]): void {
    const challenge = fields.find(([name]) => name === 'www-authenticate' || name === 'proxy-status');
    this.log.push(`response ${streamId} ${status}${challenge === undefined ? '' : ` ${challenge[1]}`}`);
  }
  onData(_streamId: number, bytes: Uint8Array): void {
    this.#capsules.push(bytes);
  }
  onStreamEnd(streamId: number): void {
    this.log.push(`end ${streamId}`);
  }
  onStreamReset(streamId: number, code: number): void {
    this.log.push(`reset ${streamId} 0x${code.toString(16)}`);
  }
  onGoaway(): void {
    this.log.push('goaway');
  }
  onConnectionError(error: Error): void {
    this.log.push(`error ${error.message}`);
  }
}

/** A node's connection and a client, joined by memory instead of sockets. */
export class TunnelPair {
  readonly host = new RecordingHost();
  readonly client: Client;
  readonly #server: QuicEndpoint;
  #connection: ServerConnection | undefined;

  /** The client has that core, where one is given. */
  constructor({ cert, key, ca }: TestCertificate, clientCore?: QuicCore) {
    this.#server = new QuicEndpoint(
      { role: 'server', cert, key, localAddress: SERVER, maxConnections: 10 },
      {
        onConnection: (id, peer) => {
          this.#connection = new ServerConnection(id, parseSocketAddress(peer), this.#server, this.host);
        },
        onHandshakeComplete: () => this.connection.start(),
        onStreamData: (_c, streamId, bytes, fin) => this.connection.receiveStream(streamId, bytes, fin),
        onStreamReset: (_c, streamId, code) => this.connection.streamReset(streamId, code),
        onDatagram: (_c, bytes, offset, length) => this.connection.receiveDatagram(bytes, offset, length),
        onClosed: (_c, code, reason) => this.connection.closed(code, reason),
      },
      () => {},
    );
    this.client = new Client(ca, clientCore);
    this.exchange();
  }

  get connection(): ServerConnection {
    if (this.#connection === undefined) throw new Error('no connection yet');
    return this.#connection;
  }

  /** Carries packets to and fro until there are none. */
  exchange(): void {
    for (let moved = true; moved; ) {
      moved = false;
      this.client.quic.flush((bytes, offset, length) => {
        this.#server.receive(bytes.slice(offset, offset + length), 0, length, CLIENT);
        moved = true;
      });
      this.#server.processEvents();
      this.#server.flush((bytes, offset, length) => {
        this.client.quic.receive(bytes.slice(offset, offset + length), 0, length, SERVER);
        moved = true;
      });
      this.client.quic.processEvents();
    }
  }

  /** Carries packets and runs timers until `done`: an end is told only after both sides had time to hear of it (RFC 9000 10.2). */
  async until(done: () => boolean, what: string): Promise<void> {
    await waitFor(
      () => {
        for (const end of [this.client.quic, this.#server]) if (end.timeoutMs() === 0) end.onTimeout();
        this.exchange();
        return done();
      },
      { timeoutMs: 5_000, intervalMs: 5, what },
    );
  }

  /** The client's last line, once its connection is gone. */
  async clientClosed(): Promise<string> {
    await this.until(() => this.client.log.at(-1)?.startsWith('closed') === true, 'the end at the client');
    return this.client.log.at(-1) ?? '';
  }

  /** Closes from the client and waits until the node has noticed. */
  async closeFromClient(reason: string): Promise<void> {
    this.client.quic.closeConnection(0, 0x100, reason);
    await this.until(() => this.host.closed.length > 0, 'the end at the node');
  }

  /** Sends a request; its stream id. */
  request(token: string | undefined = 'token', path = '', protocol = 'connect-ip'): number {
    const request = buildConnectIpRequest(URL.slice(0, -1) + path, token);
    const streamId = this.client.http3.sendRequest({ ...request, protocol });
    this.exchange();
    return streamId;
  }

  /** Lets the last request in. */
  accept(scope: AcceptedScope = { targets: null, protocol: 'any' }, addresses = ADDRESSES): boolean {
    const requestId = this.host.requests.at(-1)?.id ?? 0;
    const command = {
      type: 'accept',
      requestId,
      connectionId: CONNECTION_ID,
      clientId: 'c',
      addresses,
      scope,
    } as const;
    const accepted = this.connection.accept(command);
    this.exchange();
    return accepted;
  }

  /** A whole open tunnel; its stream id. What was logged on the way is forgotten. */
  open(): number {
    const streamId = this.request();
    this.accept();
    this.client.log.length = 0;
    return streamId;
  }

  /** A datagram as it is, from the client. */
  datagram(...bytes: number[]): void {
    const { quic } = this.client;
    quic.datagramTarget.set(bytes, quic.datagramOffset);
    quic.sendDatagram(0, bytes.length);
    this.exchange();
  }

  /** An IP packet from the client through the tunnel on that stream. */
  sendUp(streamId: number, packet: Uint8Array): boolean {
    const { quic, http3 } = this.client;
    const sent = sendPacket(quic, http3, { connection: 0, streamId }, packet, 0, packet.length);
    this.exchange();
    return sent;
  }

  raw(streamId: number, bytes: Uint8Array, fin = false): void {
    this.client.quic.sendStream(0, streamId, bytes, fin);
    this.exchange();
  }
}
