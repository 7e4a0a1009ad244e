import { randomBytes } from 'node:crypto';
import { QuicEndpoint, type QuicEvents } from '../../../data-plane/quic/quic-endpoint.ts';
import { type QuicConnection, QuicServer } from '../../../data-plane/quic/quic-server.ts';
import { RETRY_KEY_BYTES } from '../../../data-plane/quic/retry-token.ts';
import type { TestCertificate } from '../../support/test-certificate.ts';
import { waitFor } from '../../support/wait-for.ts';

export const RETRY_KEY = randomBytes(RETRY_KEY_BYTES);
const SERVER = '198.51.100.2:4433';
export interface NetworkOptions {
  readonly maxConnections?: number;
  readonly retryFrom?: number;
  readonly connectionsPerCell?: number;
}

/** A server with two connections a cell, and clients that all talk to it through memory. */
export class QuicNetwork {
  readonly log: string[] = [];
  readonly connections = new Map<string, QuicConnection>();
  readonly clients = new Map<string, { endpoint: QuicEndpoint; received: string[] }>();
  readonly server: QuicServer;
  nowMs = 1_000;
  /** What goes to a client, or to nobody. */
  onSent: (packet: Buffer, peer: string) => void = () => {};
  /** What a client sends; false keeps it from the server. */
  onClientSent: (packet: Buffer, peer: string) => boolean = () => true;
  readonly #pem: TestCertificate;

  constructor(pem: TestCertificate, options: NetworkOptions = {}) {
    this.#pem = pem;
    this.server = new QuicServer(
      {
        role: 'server',
        cert: pem.cert,
        key: pem.key,
        localAddress: SERVER,
        maxConnections: 8,
        connectionsPerCell: 2,
        retryKey: RETRY_KEY,
        ...options,
      },
      {
        onConnection: (connection) => {
          const { peer } = connection;
          this.connections.set(peer, connection);
          return {
            onHandshakeComplete: () => this.log.push(`${peer} up`),
            onStreamData: (_id, bytes) => this.log.push(`${peer} says ${Buffer.from(bytes)}`),
            onStreamReset: () => {},
            onDatagram: (bytes, offset, length) =>
              this.log.push(`${peer} sends ${Buffer.from(bytes.subarray(offset, offset + length))}`),
            onClosed: (_code, reason) => this.log.push(`${peer} closed ${reason}`),
            onRetired: () => connection.endpoint.closeConnection(connection.number, 0x100, 'retired'),
            onLost: () => this.log.push(`${peer} lost`),
          };
        },
      },
      () => {},
    );
  }

  /** Lets the server's timers run, on its core's own clock, until `done`. */
  async settle(done: () => boolean): Promise<void> {
    const probe = () => {
      this.server.onTimeout(Number.POSITIVE_INFINITY);
      this.exchange();
      this.server.sweep(this.nowMs);
      return done();
    };
    await waitFor(probe, { timeoutMs: 10_000, what: 'what the timers of the server bring' });
  }

  connect(...peers: string[]): void {
    for (const peer of peers) this.#begin(peer);
    this.exchange();
  }

  /** A client that trusts another authority. */
  connectTrusting(ca: string, peer: string): void {
    this.#begin(peer, ca);
    this.exchange();
  }

  /** One datagram from anybody. */
  receive(bytes: Uint8Array, peer: string): void {
    this.server.receive(bytes, 0, bytes.length, peer, this.nowMs);
    this.exchange();
  }

  #begin(peer: string, ca = this.#pem.ca): void {
    const received: string[] = [];
    const events: QuicEvents = {
      onConnection: () => {},
      onHandshakeComplete: () => received.push('up'),
      onStreamData: () => {},
      onStreamReset: () => {},
      onDatagram: (_c, bytes, offset, length) =>
        received.push(Buffer.from(bytes.subarray(offset, offset + length)).toString()),
      onClosed: (_c, code, reason) => received.push(`closed 0x${code.toString(16)} ${reason}`.trim()),
    };
    const options = { role: 'client', localAddress: peer, serverAddress: SERVER, serverName: 'node-a.test' } as const;
    this.clients.set(peer, {
      endpoint: new QuicEndpoint({ ...options, ca }, events, () => {}),
      received,
    });
  }

  exchange(): void {
    try {
      this.#exchange();
    } catch (error) {
      this.server.recover(error);
    }
  }

  #exchange(): void {
    for (let round = 0, moved = 1; moved > 0 && round < 50; round++) {
      moved = 0;
      for (const [peer, { endpoint }] of this.clients) {
        endpoint.flush((bytes, offset, length) => {
          const packet = Buffer.from(bytes.slice(offset, offset + length));
          if (this.onClientSent(packet, peer)) this.server.receive(packet, 0, length, peer, this.nowMs);
          moved++;
        });
      }
      this.server.processEvents();
      this.server.flush((bytes, offset, length, peer) => {
        const packet = Buffer.from(bytes.slice(offset, offset + length));
        this.onSent(packet, peer);
        this.clients.get(peer)?.endpoint.receive(packet, 0, length, SERVER);
        moved++;
      }, this.nowMs);
      for (const { endpoint } of this.clients.values()) endpoint.processEvents();
    }
  }

  say(peer: string, text: string): void {
    this.clients.get(peer)?.endpoint.sendStream(0, 0, Buffer.from(text), false);
    this.exchange();
  }

  answer(peer: string, text: string): void {
    const { endpoint, number } = this.connections.get(peer)!;
    endpoint.datagramTarget.set(Buffer.from(text), endpoint.datagramOffset);
    endpoint.sendDatagram(number, text.length);
    this.exchange();
  }
}
