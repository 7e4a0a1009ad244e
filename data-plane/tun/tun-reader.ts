import { constants } from 'node:os';
import { WordBuffer } from '../ip/word-buffer.ts';
import { copyBytes } from '../os/copy-bytes.ts';
import { addressOf, errno, read } from '../os/libc.ts';
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
  readonly #buffer = new WordBuffer(READ_BYTES);
  readonly #address = addressOf(this.#buffer.bytes);
  readonly #segmentation = new Segmentation(this.#buffer);
  readonly #vnet: boolean;

  /** `vnet`: whether the descriptor gives a vnet header before each packet. */
  constructor(fd: number, name: string, vnet: boolean) {
    this.#fd = fd;
    this.#name = name;
    this.#vnet = vnet;
  }

  /**
   * One read: hands all packets of it to the handler and returns how many there were, 0 when nothing waits. What the handler throws passes
   * through; packets that it has not seen then come with the next call. Throws TunError TUN_GONE.
   */
  receive(handler: PacketHandler): number {
    const segmentation = this.#segmentation;
    let packets = 0;
    for (let more = this.#nextOrRead(); more; more = segmentation.next()) {
      packets++;
      this.#count();
      handler(this.#buffer.bytes, segmentation.offset, segmentation.length);
    }
    return packets;
  }

  /** The length of one packet, which is copied to `offset` and cut where there is no room; 0 when none waits. Throws TunError TUN_GONE. */
  read(target: Uint8Array, offset: number): number {
    if (!this.#nextOrRead()) return 0;
    this.#count();
    const length = Math.min(this.#segmentation.length, target.length - offset);
    copyBytes(this.#buffer.bytes, this.#segmentation.offset, target, offset, length);
    return length;
  }

  #count(): void {
    this.packets++;
    this.bytes += this.#segmentation.length;
  }

  /** The next packet of the last read, or else the first one of a new read. */
  #nextOrRead(): boolean {
    while (!this.#segmentation.next()) if (!this.#read()) return false;
    return true;
  }

  #read(): boolean {
    const length = read(this.#fd, this.#address, READ_BYTES);
    if (length <= 0) {
      if (length < 0) this.#checkErrno(errno());
      return false;
    }
    this.reads++;
    if (!this.#vnet) this.#segmentation.startWhole(0, length);
    else if (!this.#segmentation.start(0, length)) this.drops++;
    return true;
  }

  #checkErrno(error: number): void {
    // EIO: the interface is on its way out or down.
    if (error === EAGAIN || error === EINTR || error === EIO) return;
    throw goneError(this.#name);
  }
}
