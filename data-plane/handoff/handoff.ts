import { TokenBucket } from '../ip/token-bucket.ts';
import { read, send } from '../os/libc.ts';
import { ConnectionIdTable } from '../quic/connection-id-table.ts';
import { createConnectionIds, MAX_CONNECTION_ID_BYTES, readConnectionIds } from '../quic/packet-header.ts';
import type { SocketAddress } from '../udp/socket-address.ts';
import type { SocketAddressCache } from '../udp/socket-address-cache.ts';
import {
  HandoffBatch,
  type HandoffHandler,
  type HandoffKind,
  MAX_HANDED_BYTES,
  MAX_MESSAGE_BYTES,
  readHandoff,
} from './handoff-batch.ts';
import type { HandoffDescriptors } from './handoff-sockets.ts';

/**
 * Datagrams of unknown connections that a shard asks all others about (ours): a client that moved is known after a few, so this is what
 * strangers' garbage may cost.
 */
const ASKS_PER_SECOND = 1_000;
const ASKS_AT_ONCE = 256;
/** The longest that it is known whose connection an id is which no packet uses: twice QUIC's idle timeout. */
const FORGET_OWNERS_AFTER_MS = 60_000;
const MSG_DONTWAIT = 0x40;

/** Datagrams, since the thread started. */
export interface HandoffCounts {
  /** Handed to all other shards, because nobody knew whose they were. */
  readonly asked: number;
  /** Handed to the shard that has the connection. */
  readonly passed: number;
  /** Of other shards, of connections that are here. */
  readonly taken: number;
  /** Neither, for there were too many. */
  readonly dropped: number;
}

export const NO_HANDOFFS: HandoffCounts = { asked: 0, passed: 0, taken: 0, dropped: 0 };

export interface HandoffOptions {
  readonly shard: number;
  readonly descriptors: HandoffDescriptors;
  readonly peers: SocketAddressCache;
  /** A datagram of another shard; true when its connection is here. */
  readonly take: (bytes: Uint8Array, offset: number, length: number, peer: SocketAddress) => boolean;
}

/**
 * The kernel spreads peers over the shards by address and port, so a client whose address or port changes may reach a shard that does
 * not have its connection. That one asks all others; the one that has it takes the datagram, answers from its own socket, and
 * says so, and from then on the datagrams are passed to it alone. A datagram is handed on once, never further.
 */
export class Handoff implements HandoffHandler {
  readonly #options: HandoffOptions;
  readonly #asks: HandoffBatch;
  /** By shard, made when they are needed. */
  readonly #passes: HandoffBatch[] = [];
  readonly #claims: HandoffBatch[] = [];
  readonly #owners = new ConnectionIdTable();
  readonly #ids = createConnectionIds();
  readonly #bucket = new TokenBucket({ ratePerSecond: ASKS_PER_SECOND, burst: ASKS_AT_ONCE });
  readonly #message = new Uint8Array(MAX_MESSAGE_BYTES);
  readonly #words = new Int32Array(this.#message.buffer);
  #nowMs = 0;
  readonly #counts = { ...NO_HANDOFFS };

  constructor(options: HandoffOptions) {
    this.#options = options;
    this.#asks = new HandoffBatch('ask', options.shard);
  }

  /** For a Poller: readable when another shard handed something on. */
  get fd(): number {
    return this.#options.descriptors.inbox;
  }

  get counts(): HandoffCounts {
    return { ...this.#counts };
  }

  /** A datagram of a connection that is not here. It is copied; call `flush` after the last one. */
  offer(bytes: Uint8Array, offset: number, length: number, peer: SocketAddress, nowMs: number): void {
    const ids = this.#ids;
    if (
      length > MAX_HANDED_BYTES ||
      readConnectionIds(bytes, offset, length, MAX_CONNECTION_ID_BYTES, ids) === 'invalid'
    ) {
      this.#counts.dropped++;
      return;
    }
    const owner = this.#owners.get(bytes, ids.destinationOffset, ids.destinationLength, nowMs);
    if (owner >= 0) {
      const batch = this.#batch(this.#passes, 'pass', owner);
      if (batch.addDatagram(bytes, offset, length, peer.bytes)) return;
      this.#sendPasses(batch, owner);
      batch.addDatagram(bytes, offset, length, peer.bytes);
    } else if (this.#bucket.take(nowMs)) {
      if (this.#asks.addDatagram(bytes, offset, length, peer.bytes)) return;
      this.#sendAsks();
      this.#asks.addDatagram(bytes, offset, length, peer.bytes);
    } else {
      this.#counts.dropped++;
    }
  }

  flush(): void {
    if (!this.#asks.isEmpty) this.#sendAsks();
    for (const [owner, batch] of this.#passes.entries()) if (batch?.isEmpty === false) this.#sendPasses(batch, owner);
    for (const [asker, batch] of this.#claims.entries()) if (batch?.isEmpty === false) this.#send(batch, asker);
  }

  /** Takes one message of another shard; false when there was none. */
  receive(nowMs: number): boolean {
    const length = read(this.fd, this.#message, this.#message.length);
    if (length <= 0) return false;
    this.#nowMs = nowMs;
    readHandoff(this.#words, length, this);
    this.flush();
    return true;
  }

  /** To be called every few seconds. */
  sweep(nowMs: number): void {
    this.#owners.sweep((_owner, usedMs) => nowMs - usedMs > FORGET_OWNERS_AFTER_MS);
  }

  // --- from readHandoff

  onDatagram(kind: 'ask' | 'pass', from: number, sockaddrWord: number, offset: number, length: number): void {
    const { peers, take } = this.#options;
    if (!take(this.#message, offset, length, peers.fromWords(this.#words, sockaddrWord))) return;
    this.#counts.taken++;
    if (kind === 'ask') this.#claim(from, offset, length);
  }

  onClaim(from: number, offset: number, length: number): void {
    this.#owners.set(this.#message, offset, length, from, this.#nowMs);
  }

  #claim(asker: number, offset: number, length: number): void {
    const ids = this.#ids;
    readConnectionIds(this.#message, offset, length, MAX_CONNECTION_ID_BYTES, ids);
    // One that does not fit any more is claimed when it is asked for again.
    this.#batch(this.#claims, 'claim', asker).addClaim(this.#message, ids.destinationOffset, ids.destinationLength);
  }

  #batch(batches: HandoffBatch[], kind: HandoffKind, shard: number): HandoffBatch {
    batches[shard] ??= new HandoffBatch(kind, this.#options.shard);
    return batches[shard];
  }

  #sendAsks(): void {
    const { shard, descriptors } = this.#options;
    const { records } = this.#asks;
    let reached = 0;
    for (let other = 0; other < descriptors.outboxes.length; other++) {
      if (other !== shard && this.#write(this.#asks, other)) reached++;
    }
    this.#asks.clear();
    if (reached > 0) this.#counts.asked += records;
    else this.#counts.dropped += records;
  }

  #sendPasses(batch: HandoffBatch, owner: number): void {
    const { records } = batch;
    if (this.#send(batch, owner)) this.#counts.passed += records;
    else this.#counts.dropped += records;
  }

  #send(batch: HandoffBatch, shard: number): boolean {
    const isSent = this.#write(batch, shard);
    batch.clear();
    return isSent;
  }

  /** False when the shard has no room; it is lost then, as on any full link, and QUIC sends it again. */
  #write(batch: HandoffBatch, shard: number): boolean {
    return send(this.#options.descriptors.outboxes[shard]!, batch.bytes, batch.length, MSG_DONTWAIT) >= 0;
  }
}
