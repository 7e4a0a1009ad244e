import { H3_EXCESSIVE_LOAD, H3_MESSAGE_ERROR, H3_REQUEST_CANCELLED } from '../../data-plane/http3/error-codes.ts';
import { frame } from '../unit/http3/recording.ts';
import { Http2Peer, type Http2PeerStream } from './http2-peer.ts';
import { type PeerTarget, TestPeer } from './test-peer.ts';
import type { TunnelEnd } from './tunnel-end.ts';

/** How the node ended a stream: cleanly, or with a code of the transport. */
export type StreamEnd = 'end' | number;

/** A request of a client, and the tunnel that it became where the status is 200. */
export interface RequestUnderTest extends TunnelEnd {
  readonly status: number;
  /** A field of the answer. */
  field(name: string): string | undefined;
  /** Of each ADDRESS_ASSIGN that came: `0=10.99.0.2/32`. */
  readonly assigned: readonly (readonly string[])[];
  /** How many routes were advertised last; undefined before that. */
  readonly routes: number | undefined;
  /** Content of the request stream, as it is: capsules. */
  content(bytes: Uint8Array): void;
  /** Ends the client's side. */
  end(): void;
  /** How the node ended it. */
  readonly ended: StreamEnd | undefined;
  /** Reads nothing until `resume`. */
  pause(): void;
  resume(): void;
  close(): void;
}

export interface RequestChanges {
  readonly path?: string;
  readonly protocol?: string;
}

/** A way to carry tunnels, as a client of it sees the node. */
export interface TransportUnderTest {
  readonly id: string;
  /** As it is on record. */
  readonly name: 'http3' | 'http2' | 'webtransport';
  /** What the node resets a stream with. */
  readonly codes: { readonly malformed: number; readonly excessive: number; readonly cancelled: number };
  /** Asks for a tunnel on a connection of its own. */
  request(target: PeerTarget, token: string | undefined, changes?: RequestChanges): Promise<RequestUnderTest>;
}

/** A pause that is as good as for ever: less than QUIC's idle timeout all the same. */
export const PAUSED_TURN_MS = 1_000_000;
export const TURN_MS = 3;
const REQUEST_STREAM = 0;

export const http3: TransportUnderTest = {
  id: 'http3',
  name: 'http3',
  codes: { malformed: H3_MESSAGE_ERROR, excessive: H3_EXCESSIVE_LOAD, cancelled: H3_REQUEST_CANCELLED },
  async request(target, token, changes = {}) {
    const peer = await TestPeer.connect(target);
    const status = await peer.request(token, changes);
    return new Http3Request(peer, status);
  },
};

export const http2: TransportUnderTest = {
  id: 'http2',
  name: 'http2',
  codes: { malformed: 0x1, excessive: 0xb, cancelled: 0x8 },
  async request(target, token, { path, protocol } = {}) {
    const peer = await Http2Peer.connect(target);
    const changes = {
      ...(path !== undefined && { ':path': path }),
      ...(protocol !== undefined && { ':protocol': protocol }),
    };
    return new Http2Request(peer, await peer.request(token, changes));
  },
};

class Http3Request implements RequestUnderTest {
  readonly status: number;
  readonly #peer: TestPeer;

  constructor(peer: TestPeer, status: number) {
    this.#peer = peer;
    this.status = status;
  }

  get addresses(): readonly string[] {
    return this.#peer.addresses;
  }
  get assigned(): readonly (readonly string[])[] {
    return this.#peer.assigned;
  }
  get routes(): number | undefined {
    return this.#peer.routes;
  }
  get onPacket(): (packet: Buffer) => void {
    return this.#peer.onPacket;
  }
  set onPacket(handler: (packet: Buffer) => void) {
    this.#peer.onPacket = handler;
  }
  get ended(): StreamEnd | undefined {
    return this.#peer.resets.get(REQUEST_STREAM) ?? (this.#peer.ended ? 'end' : undefined);
  }
  field(name: string): string | undefined {
    return this.#peer.responses.get(REQUEST_STREAM)?.fields.find(([field]) => field === name)?.[1];
  }
  packet(bytes: Uint8Array): void {
    this.#peer.packet(bytes);
  }
  content(bytes: Uint8Array): void {
    this.#peer.raw(REQUEST_STREAM, frame(0x00, bytes));
  }
  end(): void {
    this.#peer.raw(REQUEST_STREAM, new Uint8Array(0), true);
  }
  pause(): void {
    this.#peer.pace(PAUSED_TURN_MS);
  }
  resume(): void {
    this.#peer.pace(TURN_MS);
  }
  close(): void {
    this.#peer.close();
  }
  until(done: () => unknown, what: string, timeoutMs?: number): Promise<unknown> {
    return this.#peer.until(done, what, timeoutMs);
  }
}

class Http2Request implements RequestUnderTest {
  readonly #peer: Http2Peer;
  readonly #stream: Http2PeerStream;

  constructor(peer: Http2Peer, stream: Http2PeerStream) {
    this.#peer = peer;
    this.#stream = stream;
  }

  get status(): number {
    return this.#stream.status;
  }
  get addresses(): readonly string[] {
    return this.#stream.addresses;
  }
  get assigned(): readonly (readonly string[])[] {
    return this.#stream.assigned;
  }
  get routes(): number | undefined {
    return this.#stream.routes;
  }
  get onPacket(): (packet: Buffer) => void {
    return this.#stream.onPacket;
  }
  set onPacket(handler: (packet: Buffer) => void) {
    this.#stream.onPacket = handler;
  }
  get ended(): StreamEnd | undefined {
    const { closed, ended } = this.#stream;
    return ended ? 'end' : closed;
  }
  field(name: string): string | undefined {
    const value = this.#stream.fields[name];
    return value === undefined ? undefined : String(value);
  }
  packet(bytes: Uint8Array): void {
    this.#stream.packet(bytes);
  }
  content(bytes: Uint8Array): void {
    this.#stream.raw(bytes);
  }
  end(): void {
    this.#stream.stream.end();
  }
  pause(): void {
    this.#stream.stream.pause();
  }
  resume(): void {
    this.#stream.stream.resume();
  }
  close(): void {
    this.#peer.close();
  }
  until(done: () => unknown, what: string, timeoutMs?: number): Promise<unknown> {
    return this.#peer.until(done, what, timeoutMs);
  }
}
