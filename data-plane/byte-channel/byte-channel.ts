import { constants } from 'node:os';
import { addressOf, check, closeQuietly, errno, read, send, shutdown } from '../os/libc.ts';
import { OsError } from '../os/os-error.ts';
import { Poller } from '../os/poller.ts';
import type { LoopSource, LoopSources } from '../packet-thread/packet-loop.ts';

const { EAGAIN, ECONNRESET, EINTR, EPIPE } = constants.errno;
const MSG_NOSIGNAL = 0x4000;
const SHUT_WR = 1;

/**
 * Bytes of packets that may always wait for a socket that is full (ours): what one read of the TUN device and one batch bring is about 160 KiB.
 * With the socket's own buffer a client that has 10 Mbit/s waits for them 0.6 s.
 */
export const PACKET_QUEUE_BYTES = 256 * 1024;
/**
 * Bytes that may wait where the other end is quick: as long as what is written had waited no longer than MAX_WAIT_MS (both ours). Without these,
 * a thread that pauses for a few ms costs a TCP stream inside most of its throughput: 325 Mbit/s instead of 1600.
 */
export const MAX_PACKET_QUEUE_BYTES = 4 * 1024 * 1024;
const MAX_WAIT_MS = 50;
/** Bytes beyond both for packets of up to SHORT_PACKET_BYTES (ours): pings, acknowledgements and questions go on while a bulk transfer is held back. */
export const SHORT_RESERVE_BYTES = 64 * 1024;
const SHORT_PACKET_BYTES = 256;
/** Bytes beyond that for what must not be dropped (ours): capsules of control have a few hundred, and one may have 64 KiB. */
export const CONTROL_RESERVE_BYTES = 128 * 1024;
const MAX_QUEUE_BYTES = MAX_PACKET_QUEUE_BYTES + SHORT_RESERVE_BYTES + CONTROL_RESERVE_BYTES;
const INITIAL_QUEUE_BYTES = 4 * 1024;
/** A buffer that had to grow beyond this is given back when it has been empty again, this long after (ours). */
const KEPT_QUEUE_BYTES = 2 * PACKET_QUEUE_BYTES;
const KEPT_MS = 1_000;

/** One read; what a channel may bring before others have their turn is for the loop to limit. */
const READ_BYTES = 64 * 1024;
/** Of all channels of a thread: it is empty again before the next read. */
const input = new Uint8Array(READ_BYTES);

export interface ByteChannelEvents {
  /** Bytes came. Good until the handler returns. */
  onBytes(bytes: Uint8Array): void;
  /**
   * Nothing more comes: the other end has said its last, and sending may still work, or it is `gone`, closed without a word or with its
   * thread. One that was closed after its last word counts as gone too, if that happened before the word was read.
   */
  onEnd(gone: boolean): void;
  /** The first bytes since the queue was empty were queued. */
  onQueued?(): void;
}

/**
 * A packet thread's end of a socket pair, watched by its loop: bytes come as they are read, and what is queued in a turn leaves with one
 * system call, by `flush`; what the socket does not take waits in a bounded queue until it does.
 */
export class ByteChannel implements LoopSource {
  readonly #fd: number;
  readonly #sources: LoopSources;
  readonly #events: ByteChannelEvents;
  /** Queued are the bytes from `#start` to `#end`. */
  #buffer = new Uint8Array(INITIAL_QUEUE_BYTES);
  #address = addressOf(this.#buffer);
  #start = 0;
  #end = 0;
  /** One byte whose wait is measured: how many are to be written until then, and since when it waits. */
  #untilSample = 0;
  #sampleMs = 0;
  #grownMs = 0;
  #state: 'open' | 'ending' | 'ended' | 'closed' = 'open';
  #readable = true;
  #watched = false;

  /** Takes over the descriptor. */
  constructor(fd: number, sources: LoopSources, events: ByteChannelEvents) {
    this.#fd = fd;
    this.#sources = sources;
    this.#events = events;
    sources.add(fd, this);
  }

  /** Where `reserve` makes room. Another one after each call of it. */
  get target(): Uint8Array {
    return this.#buffer;
  }

  /** Bytes that the socket did not take yet. */
  get queuedBytes(): number {
    return this.#end - this.#start;
  }

  /** Queues bytes of a packet, which the caller writes to `target` from the offset that is returned on; -1 where the queue is full. */
  reserve(length: number): number {
    const reserve = length <= SHORT_PACKET_BYTES ? SHORT_RESERVE_BYTES : 0;
    const isLong = this.queuedBytes + length > PACKET_QUEUE_BYTES + reserve;
    return isLong && this.#isSlow() ? -1 : this.#reserve(length, MAX_PACKET_QUEUE_BYTES + reserve);
  }

  /**
   * Queues what must not be dropped. False where there is no room even for that: the other end takes nothing, and should be given up. After
   * the end it goes nowhere.
   */
  send(bytes: Uint8Array): boolean {
    if (this.#state !== 'open') return true;
    const offset = this.#reserve(bytes.length, MAX_QUEUE_BYTES);
    if (offset >= 0) this.#buffer.set(bytes, offset);
    return offset >= 0;
  }

  /** Hands what is queued to the socket. Call it at the end of a turn. */
  flush(): void {
    while (this.#start < this.#end) {
      const written = send(this.#fd, this.#address + this.#start, this.#end - this.#start, MSG_NOSIGNAL);
      if (written < 0) {
        if (this.#cannotWrite(errno())) break;
        continue;
      }
      this.#start += written;
      this.#untilSample -= written;
    }
    if (this.#start === this.#end) {
      this.#start = 0;
      this.#end = 0;
      this.#giveBack();
      if (this.#state === 'ending') this.#shutdown();
    }
    const full = this.#end > 0;
    if (full !== this.#watched && this.#readable && this.#state !== 'closed') {
      this.#watched = full;
      this.#sources.watchWritable(this.#fd, full);
    }
  }

  /** Nothing more is sent. The other end reads what is queued, and then the end. */
  end(): void {
    if (this.#state !== 'open') return;
    this.#state = 'ending';
    this.flush();
  }

  /** Gives up the descriptor; what is still queued is lost. Nothing happens the second time. */
  close(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#start = 0;
    this.#end = 0;
    this.#unwatch();
    closeQuietly(this.#fd);
  }

  // --- from the loop

  drain(): void {
    const length = read(this.#fd, input, READ_BYTES);
    if (length > 0) {
      this.#events.onBytes(input.subarray(0, length));
      return;
    }
    if (length < 0) {
      const why = errno();
      if (why === EAGAIN || why === EINTR) return;
      if (why !== ECONNRESET) throw new OsError('read', 'a byte channel', why);
    }
    // It would be readable for ever from here on.
    this.#unwatch();
    this.#events.onEnd(this.#isOtherEndClosed());
  }

  writable(): void {
    this.flush();
  }

  #isOtherEndClosed(): boolean {
    const poller = new Poller();
    const slot = poller.add(this.#fd);
    poller.wait(0);
    return poller.isHungUp(slot);
  }

  /** Whether what is queued waits too long. */
  #isSlow(): boolean {
    const nowMs = performance.now();
    if (this.#untilSample <= 0) {
      this.#untilSample = this.queuedBytes;
      this.#sampleMs = nowMs;
    }
    return nowMs - this.#sampleMs > MAX_WAIT_MS;
  }

  #reserve(length: number, limit: number): number {
    if (this.#state !== 'open' || this.queuedBytes + length > limit) return -1;
    if (this.#start === this.#end) this.#events.onQueued?.();
    if (this.#end + length > this.#buffer.length) this.#makeRoom(length);
    const offset = this.#end;
    this.#end += length;
    return offset;
  }

  #makeRoom(length: number): void {
    const queued = this.queuedBytes;
    let room = this.#buffer.length;
    // Half of it free, so that what waits is not moved for every few packets.
    while (room < 2 * (queued + length)) room *= 2;
    const before = this.#buffer;
    if (room > before.length) this.#replaceBuffer(room);
    this.#buffer.set(before.subarray(this.#start, this.#end), 0);
    this.#start = 0;
    this.#end = queued;
  }

  #giveBack(): void {
    if (this.#buffer.length > KEPT_QUEUE_BYTES && performance.now() - this.#grownMs > KEPT_MS) {
      this.#replaceBuffer(INITIAL_QUEUE_BYTES);
    }
  }

  #replaceBuffer(room: number): void {
    this.#buffer = new Uint8Array(room);
    this.#address = addressOf(this.#buffer);
    this.#grownMs = performance.now();
  }

  /** False when the call is to be made again. */
  #cannotWrite(why: number): boolean {
    if (why === EINTR) return false;
    if (why === EAGAIN) return true;
    if (why !== EPIPE && why !== ECONNRESET) throw new OsError('send', 'a byte channel', why);
    // The other end is gone, which reading tells.
    this.#state = 'ended';
    this.#start = 0;
    this.#end = 0;
    return true;
  }

  #shutdown(): void {
    this.#state = 'ended';
    check(shutdown(this.#fd, SHUT_WR), 'shutdown', 'a byte channel');
  }

  #unwatch(): void {
    if (!this.#readable) return;
    this.#readable = false;
    this.#sources.remove(this.#fd);
  }
}
