import { copyBytes } from '../os/copy-bytes.ts';
import { BlockedStreams } from './blocked-streams.ts';
import { type CoreEvent, decodeCoreEvents } from './core-events.ts';
import { type CoreHandle, MAX_DATAGRAM_PAYLOAD, openCoreHandle, type QuicOptions } from './core-handle.ts';
import type { CoreMemory } from './core-memory.ts';
import { loadQuicCore } from './core-module.ts';

/** What an endpoint tells of its connections. Byte views are good until the handler returns. */
export interface QuicEvents {
  onConnection(connection: number, peer: string): void;
  onHandshakeComplete(connection: number, clientCertificate: boolean): void;
  onStreamData(connection: number, streamId: number, bytes: Uint8Array, fin: boolean): void;
  /** The peer reset the stream, asked us to stop sending on it, or took nothing of it for too long. */
  onStreamReset(connection: number, streamId: number, errorCode: number): void;
  onDatagram(connection: number, bytes: Uint8Array, offset: number, length: number): void;
  /** The connection is gone: closed by either side, or silent for too long (`idle timeout`). */
  onClosed(connection: number, errorCode: number, reason: string): void;
}

export interface PathStatistics {
  /** Smoothed RTT, milliseconds. */
  readonly rttMs: number;
}

/** Whether the core aborted, and with it every connection in it. */
export function isCoreTrap(error: unknown): boolean {
  return error instanceof WebAssembly.RuntimeError;
}

/** Room for the text of a peer: an IPv6 address with scope and port. */
const PEER_TEXT_BYTES = 80;
/** The application error that ends a stream whose peer takes nothing of it (RFC 9114 8.1). */
const H3_EXCESSIVE_LOAD = 0x107;
/**
 * What came without anything to be answered but by an acknowledgement may wait for that long, and for that many packets (ours; RFC 9000
 * 13.2.1 allows 25 ms): mostly there is something to send by then, and asking a core of 256 connections what to send takes 0.1 ms.
 */
const ACK_DELAY_MS = 5;
const ACK_PACKETS = 16;
/** In the first byte of a packet: a long header, as handshakes have it (RFC 9000 17.2). */
const LONG_HEADER = 0x80;
/** The JSON of no events. */
const EMPTY_BATCH = 2;

/**
 * A QUIC server, or one client connection: UDP datagrams in, UDP datagrams out, no clock and no socket of its own. Feed
 * `receive`, then `processEvents`, then take what `flush` gives; call `onTimeout` when `timeoutMs` has passed.
 * Any call can throw what `isCoreTrap` knows, after which the endpoint is dead.
 */
export class QuicEndpoint {
  readonly #handle: CoreHandle;
  readonly #memory: CoreMemory;
  readonly #events: QuicEvents;
  readonly #client: boolean;
  readonly #peerText: number;
  readonly #out: number;
  readonly #datagram: number;
  readonly #spare = new Uint8Array(MAX_DATAGRAM_PAYLOAD);
  readonly #blocked = new BlockedStreams();
  #abandoned: { readonly connection: number; readonly streamId: number }[] = [];
  #lastPeer = '';
  #lastPeerLength = 0;
  #lastDestination = '';
  #lastDestinationBytes = new Uint8Array(0);
  #hasWork = true;
  /** Something may have happened in the core that was not handed out. */
  #hasEvents = true;
  /** What was given has to be answered now. */
  #urgent = true;
  /** Packets that came since the last flush, and when the first of them did. */
  #heard = 0;
  #heardMs = 0;
  /** Set while the core runs: where it stays set, the core aborted. */
  #running = false;
  /** While event bytes are borrowed from the core's memory, calls that would overwrite them wait here. */
  #deferred: (() => void)[] | undefined;

  constructor(
    options: QuicOptions,
    events: QuicEvents,
    onCoreMessage: (text: string) => void,
    core = loadQuicCore(onCoreMessage),
  ) {
    this.#handle = openCoreHandle(options, core);
    this.#events = events;
    this.#client = options.role === 'client';
    if (options.role === 'client') this.#lastDestination = options.serverAddress;
    this.#memory = core.memory;
    this.#peerText = core.alloc(PEER_TEXT_BYTES);
    this.#out = core.allocOutPtrCell();
    this.#datagram = core.alloc(MAX_DATAGRAM_PAYLOAD);
  }

  /** Whether it was given anything to do since it was flushed last: asking one at rest is not free. */
  get hasWork(): boolean {
    return this.#hasWork;
  }

  /** When it has to be flushed, on the clock of `performance.now()`: at once (0), when acknowledgements are due, or never (Infinity). */
  get flushDueMs(): number {
    if (!this.#hasWork) return Number.POSITIVE_INFINITY;
    return this.#urgent || this.#heard >= ACK_PACKETS ? 0 : this.#heardMs + ACK_DELAY_MS;
  }

  /** Whether the core aborted; the endpoint is dead then. */
  get broken(): boolean {
    return this.#running;
  }

  /** One UDP datagram from a peer (`ip:port`). What is no QUIC packet of ours is ignored (RFC 9000 10.3, 5.2). */
  receive(bytes: Uint8Array, offset: number, length: number, peer: string): void {
    if (length > 65_535) return;
    if (peer !== this.#lastPeer && !this.#client) {
      const text = Buffer.from(peer, 'latin1');
      this.#lastPeerLength = Math.min(text.length, PEER_TEXT_BYTES);
      this.#memory.bytes.set(text.subarray(0, this.#lastPeerLength), this.#peerText);
      this.#lastPeer = peer;
    }
    this.#hasWork = true;
    this.#hasEvents = true;
    this.#urgent ||= (bytes[offset]! & LONG_HEADER) !== 0;
    if (this.#heard++ === 0) this.#heardMs = performance.now();
    copyBytes(bytes, offset, this.#memory.bytes, this.#handle.rxBuffer, length);
    this.#running = true;
    this.#handle.receive(length, this.#peerText, this.#lastPeerLength);
    this.#running = false;
  }

  /** Hands out what happened since the last call. */
  processEvents(): void {
    const abandoned = this.#abandoned;
    this.#abandoned = [];
    for (const { connection, streamId } of abandoned) {
      this.#events.onStreamReset(connection, streamId, H3_EXCESSIVE_LOAD);
    }
    if (!this.#hasEvents) return;
    this.#hasEvents = false;
    this.#running = true;
    const length = this.#handle.drainEvents(this.#out);
    this.#running = false;
    if (length <= EMPTY_BATCH) return;
    const memory = this.#memory;
    const events = decodeCoreEvents(memory.readUtf8(memory.readUint32(this.#out), length), this.#client);
    if (events.every((event) => event.kind === 'datagram')) this.#deliverBorrowed(events);
    else this.#deliverCopied(events);
  }

  /** Takes every packet that is ready to be sent; `send` copies it. */
  flush(send: (bytes: Uint8Array, offset: number, length: number, peer: string) => void): void {
    const handle = this.#handle;
    for (;;) {
      this.#running = true;
      const length = handle.nextSend();
      const peer = length <= 0 || this.#client ? this.#lastDestination : this.#destination();
      this.#running = false;
      if (length <= 0) break;
      send(this.#memory.bytes, handle.txBuffer, length, peer);
    }
    this.#hasWork = this.#abandoned.length > 0;
    this.#urgent = this.#hasWork;
    this.#heard = 0;
  }

  /** Milliseconds until `onTimeout` is due, or -1 when nothing is. */
  timeoutMs(): number {
    this.#running = true;
    const timeoutMs = this.#handle.timeoutMs();
    this.#running = false;
    return timeoutMs;
  }

  onTimeout(): void {
    this.#call(() => this.#handle.onTimeout());
  }

  /**
   * Sends on a stream, opening it where it is new. What flow control blocks is kept by the core and sent later, in order (also where
   * it answers "again": measured). A stream whose peer takes nothing is reset when too much waits for it.
   */
  sendStream(connection: number, streamId: number, bytes: Uint8Array, fin: boolean): void {
    const owned = this.#deferred === undefined ? bytes : bytes.slice();
    this.#call(() => {
      const { core } = this.#handle;
      const { ptr, len } = core.writeBytes(owned);
      const taken = this.#handle.streamSend(connection, streamId, ptr, len, fin);
      core.free(ptr, len);
      if (taken < len) this.#countBlocked(connection, streamId, len - Math.max(0, taken));
    });
  }

  /** RESET_STREAM and STOP_SENDING with an application error code (RFC 9000 19.4, 19.5). */
  resetStream(connection: number, streamId: number, errorCode: number): void {
    this.#call(() => {
      this.#blocked.delete(connection, streamId);
      this.#handle.streamClose(connection, streamId, errorCode);
    });
  }

  /** Where the next datagram's payload is written, from `datagramOffset` on, before `sendDatagram`; nothing else may come between. */
  get datagramTarget(): Uint8Array {
    return this.#deferred === undefined ? this.#memory.bytes : this.#spare;
  }

  get datagramOffset(): number {
    return this.#deferred === undefined ? this.#datagram : 0;
  }

  /**
   * Sends what was written as a DATAGRAM frame (RFC 9221) of `length` bytes. False when it is longer than MAX_DATAGRAM_PAYLOAD or the
   * connection's queue is full.
   */
  sendDatagram(connection: number, length: number): boolean {
    if (length > MAX_DATAGRAM_PAYLOAD) return false;
    this.#hasWork = true;
    this.#urgent = true;
    if (this.#deferred === undefined) {
      this.#running = true;
      const answer = this.#handle.sendDatagram(connection, this.#datagram, length);
      this.#running = false;
      return answer >= 0;
    }
    const copy = this.#spare.slice(0, length);
    this.#deferred.push(() => {
      this.#memory.bytes.set(copy, this.#datagram);
      this.#handle.sendDatagram(connection, this.#datagram, length);
    });
    return true;
  }

  /** Makes the peer answer, so that neither side's idle timer runs out (RFC 9000 10.1.2). */
  ping(connection: number): void {
    this.#call(() => this.#handle.ping(connection));
  }

  /** Closes a connection with an application error code (RFC 9000 19.19). */
  closeConnection(connection: number, errorCode: number, reason: string): void {
    this.#call(() => {
      const { ptr, len } = this.#handle.core.writeUtf8(reason);
      this.#handle.close(connection, errorCode, ptr, len);
      this.#handle.core.free(ptr, len);
      this.#blocked.deleteAll(connection);
    });
  }

  /** Undefined when the connection is gone. */
  pathStatistics(connection: number): PathStatistics | undefined {
    this.#running = true;
    const length = this.#handle.sessionMetrics(connection, this.#out);
    this.#running = false;
    if (length <= 0) return undefined;
    const memory = this.#memory;
    return JSON.parse(memory.readUtf8(memory.readUint32(this.#out), length)) as PathStatistics;
  }

  /** Bytes of memory that the core holds. */
  get memoryBytes(): number {
    return this.#memory.bytes.byteLength;
  }

  free(): void {
    this.#handle.free();
  }

  // Steady state: only datagrams. Nothing is copied; whatever the handlers send waits until all are handled.
  #deliverBorrowed(events: readonly CoreEvent[]): void {
    const deferred: (() => void)[] = [];
    this.#deferred = deferred;
    const { bytes } = this.#memory;
    try {
      for (const event of events) {
        if (event.kind === 'datagram') this.#events.onDatagram(event.connection, bytes, event.offset, event.length);
      }
    } finally {
      this.#deferred = undefined;
    }
    for (const call of deferred) this.#call(call);
  }

  #deliverCopied(events: readonly CoreEvent[]): void {
    this.#urgent = true;
    const { bytes } = this.#memory;
    const copies = events.map((event) =>
      'length' in event ? bytes.slice(event.offset, event.offset + event.length) : undefined,
    );
    for (const [i, event] of events.entries()) this.#deliver(event, copies[i] ?? new Uint8Array(0));
  }

  #deliver(event: CoreEvent, bytes: Uint8Array): void {
    const { connection } = event;
    switch (event.kind) {
      case 'connection':
        this.#events.onConnection(connection, event.peer);
        return;
      case 'handshake':
        this.#events.onHandshakeComplete(connection, event.clientCertificate);
        return;
      case 'stream':
        this.#events.onStreamData(connection, event.streamId, bytes, event.fin);
        return;
      case 'streamReset':
        this.#blocked.delete(connection, event.streamId);
        this.#events.onStreamReset(connection, event.streamId, event.errorCode);
        return;
      case 'writable':
        this.#blocked.delete(connection, event.streamId);
        return;
      case 'datagram':
        this.#events.onDatagram(connection, bytes, 0, bytes.length);
        return;
      case 'closed':
        this.#blocked.deleteAll(connection);
        this.#events.onClosed(connection, event.errorCode, event.reason);
        return;
      default:
        event satisfies never;
    }
  }

  #countBlocked(connection: number, streamId: number, bytes: number): void {
    if (this.#blocked.add(connection, streamId, bytes)) return;
    this.resetStream(connection, streamId, H3_EXCESSIVE_LOAD);
    // Told with the next events: the caller is in the middle of sending.
    this.#abandoned.push({ connection, streamId });
  }

  #destination(): string {
    const memory = this.#memory;
    const length = this.#handle.nextSendDestination(this.#out);
    const pointer = memory.readUint32(this.#out);
    const { bytes } = memory;
    const last = this.#lastDestinationBytes;
    let same = last.length === length;
    for (let i = 0; same && i < length; i++) same = bytes[pointer + i] === last[i];
    if (!same) {
      this.#lastDestinationBytes = bytes.slice(pointer, pointer + length);
      this.#lastDestination = memory.readLatin1(pointer, length);
    }
    return this.#lastDestination;
  }

  #call(call: () => void): void {
    this.#hasWork = true;
    this.#hasEvents = true;
    this.#urgent = true;
    if (this.#deferred !== undefined) {
      this.#deferred.push(call);
      return;
    }
    this.#running = true;
    call();
    this.#running = false;
  }
}
