import { constants } from 'node:os';
import type { WordBuffer } from '../ip/word-buffer.ts';
import { copyBytes } from '../os/copy-bytes.ts';
import { addressOf, errno, read } from '../os/libc.ts';
import { ReadQueue, type WaitingRead } from './read-queue.ts';
import { Segmentation } from './segmentation.ts';
import { goneError } from './tun-error.ts';
import { VNET_HEADER_BYTES } from './vnet-header.ts';

const { EAGAIN, EINTR, EIO } = constants.errno;

/** Called for each packet. The bytes are good until the handler returns, which may change them. */
export type PacketHandler = (bytes: Uint8Array, offset: number, length: number) => void;

/** What one read can bring: a vnet header and the longest packet of the kernel, with room to spare. */
const READ_BYTES = VNET_HEADER_BYTES + 66_000;

/** Takes packets from a TUN descriptor; what the kernel left to be cut is cut. */
export class TunReader {
  /** Packets handed out, after they were cut, and their bytes. */
  packets = 0;
  bytes = 0;
  /** Reads that brought something. */
  reads = 0;
  /** Reads whose vnet header makes no sense. */
  drops = 0;

  readonly #fd: number;
  readonly #name: string;
  readonly #queue: ReadQueue;
  readonly #addresses = new WeakMap<WordBuffer, number>();
  readonly #vnet: boolean;
  readonly #segmentation: Segmentation;
  /** What is being handed out. */
  #current: WaitingRead;

  /** `vnet`: whether the descriptor gives a vnet header before each packet. */
  constructor(fd: number, name: string, vnet: boolean) {
    this.#fd = fd;
    this.#name = name;
    this.#vnet = vnet;
    this.#queue = new ReadQueue(READ_BYTES, vnet ? VNET_HEADER_BYTES : 0);
    this.#current = this.#queue.acquire()!;
    this.#segmentation = new Segmentation(this.#current.buffer);
  }

  /** Whether `fill` took something that `receive` has not handed out. */
  get hasWaiting(): boolean {
    return this.#queue.length > 0;
  }

  /** Takes what the kernel has, as far as there is room, so that its order can be made fair. Throws TunError TUN_GONE. */
  fill(): void {
    for (let read = this.#queue.acquire(); read !== undefined; read = this.#queue.acquire()) {
      const length = this.#read(read.buffer);
      if (length > 0) {
        this.#queue.add(read, length);
        continue;
      }
      this.#queue.release(read);
      return;
    }
  }

  /**
   * Hands all packets of the read whose turn it is to the handler and returns how many there were, 0 when nothing waits. What the
   * handler throws passes through; packets that it has not seen then come with the next call. Throws TunError TUN_GONE.
   */
  receive(handler: PacketHandler): number {
    const segmentation = this.#segmentation;
    let packets = 0;
    for (let more = this.#nextOrRead(); more; more = segmentation.next()) {
      packets++;
      this.#count();
      handler(this.#current.buffer.bytes, segmentation.offset, segmentation.length);
    }
    return packets;
  }

  /** The length of one packet, which is copied to `offset` and cut where there is no room; 0 when none waits. Throws TunError TUN_GONE. */
  read(target: Uint8Array, offset: number): number {
    if (!this.#nextOrRead()) return 0;
    this.#count();
    const length = Math.min(this.#segmentation.length, target.length - offset);
    copyBytes(this.#current.buffer.bytes, this.#segmentation.offset, target, offset, length);
    return length;
  }

  #count(): void {
    this.packets++;
    this.bytes += this.#segmentation.length;
  }

  /** The next packet of the current read, or else the first one of the next. */
  #nextOrRead(): boolean {
    while (!this.#segmentation.next()) if (!this.#startNext()) return false;
    return true;
  }

  #startNext(): boolean {
    if (!this.hasWaiting) this.fill();
    const next = this.#queue.take();
    if (next === undefined) return false;
    this.#queue.release(this.#current);
    this.#current = next;
    this.#segmentation.use(next.buffer);
    if (!this.#vnet) this.#segmentation.startWhole(0, next.length);
    else if (!this.#segmentation.start(0, next.length)) this.drops++;
    return true;
  }

  /** The length of what was read, 0 when nothing waits. */
  #read(buffer: WordBuffer): number {
    let address = this.#addresses.get(buffer);
    if (address === undefined) {
      address = addressOf(buffer.bytes);
      this.#addresses.set(buffer, address);
    }
    const length = read(this.#fd, address, READ_BYTES);
    if (length > 0) {
      this.reads++;
      return length;
    }
    if (length < 0) this.#checkErrno(errno());
    return 0;
  }

  #checkErrno(error: number): void {
    // EIO: the interface is on its way out or down.
    if (error === EAGAIN || error === EINTR || error === EIO) return;
    throw goneError(this.#name);
  }
}
