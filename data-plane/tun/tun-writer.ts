import { constants } from 'node:os';
import { copyBytes } from '../os/copy-bytes.ts';
import { addressOf, errno, write } from '../os/libc.ts';
import { Coalescing, type CoalescingOutput } from './coalescing.ts';
import { MAX_FLOW_PACKET_BYTES } from './flow-packet.ts';
import type { FlowRun } from './flow-run.ts';
import type { TunOffload } from './open-tun.ts';
import { Segmentation } from './segmentation.ts';
import { goneError } from './tun-error.ts';
import { VNET_HEADER_BYTES } from './vnet-header.ts';

const { EBADF, EINTR, EINVAL, EMSGSIZE } = constants.errno;
/** What a TUN descriptor answers after its interface was deleted; Node does not name it. */
const EBADFD = 77;
/** Runs that the kernel refuses, and takes packet by packet, before we stop to offer them (ours). */
const MAX_RUN_REFUSALS = 8;

/** Hears of queued packets that the kernel did not take, all with this owner; `bytes` is their sum. */
export type DropHandler<Owner> = (owner: Owner, packets: number, bytes: number) => void;

/** Gives packets to a TUN descriptor, with offload many of one flow in one system call. */
export class TunWriter<Owner> implements CoalescingOutput<Owner> {
  /** Packets that the kernel took, as they were queued or written, and their bytes. */
  packets = 0;
  bytes = 0;
  /** System calls made. */
  writes = 0;
  /** Packets that the kernel did not take: its queue was full, the interface was down, or it was no IP packet. */
  drops = 0;
  /** The errno of the last of these, 0 if there was none. */
  lastErrno = 0;
  /** Runs that were given packet by packet, because the kernel refused them as a whole. */
  refusedRuns = 0;

  readonly #fd: number;
  readonly #name: string;
  readonly #onDropped: DropHandler<Owner>;
  readonly #headerBytes: number;
  /** Room for a vnet header that says nothing, and a packet. */
  readonly #frame = new Uint8Array(VNET_HEADER_BYTES + MAX_FLOW_PACKET_BYTES);
  readonly #frameAddress = addressOf(this.#frame);
  /** Where the buffers of runs are; there are a few, and they stay. */
  readonly #runAddresses = new Map<Uint8Array, number>();
  /** Undefined without offload. */
  #coalescing: Coalescing<Owner> | undefined;
  #gone = false;

  constructor(fd: number, name: string, offload: TunOffload, onDropped: DropHandler<Owner>) {
    this.#fd = fd;
    this.#name = name;
    this.#onDropped = onDropped;
    this.#headerBytes = offload === 'off' ? 0 : VNET_HEADER_BYTES;
    if (offload !== 'off') this.#coalescing = new Coalescing(this, { udp: offload === 'tcp-udp' });
  }

  /**
   * Takes one packet, copying it; it leaves with `flush` at the latest. Packets of one flow and owner leave in their order. One that the
   * kernel does not take is counted and told to the drop handler. Throws TunError TUN_GONE, RangeError when the range is not in `bytes`.
   */
  queue(bytes: Uint8Array, offset: number, length: number, owner: Owner): void {
    if (this.#coalescing === undefined) this.writeAlone(bytes, offset, length, owner);
    else this.#coalescing.add(bytes, offset, length, owner);
    if (this.#gone) throw goneError(this.#name);
  }

  /** Gives the kernel what is queued: afterwards each packet is written or was told to the drop handler. Throws TunError TUN_GONE. */
  flush(): void {
    this.#coalescing?.flush();
    if (this.#gone) throw goneError(this.#name);
  }

  /** Gives the kernel one packet at once, ahead of what is queued; false when it was dropped. Throws as `queue` does. */
  write(bytes: Uint8Array, offset: number, length: number): boolean {
    const written = this.#writeOne(bytes, offset, length);
    if (this.#gone) throw goneError(this.#name);
    return written;
  }

  // --- CoalescingOutput

  writeAlone(bytes: Uint8Array, offset: number, length: number, owner: Owner): void {
    if (!this.#writeOne(bytes, offset, length)) this.#onDropped(owner, 1, length);
  }

  writeRun(run: FlowRun<Owner>, owner: Owner): void {
    const { packets, packetBytes } = run;
    const error = this.#write(this.#addressOf(run.buffer.bytes), run.length);
    if (error === EINVAL && packets > 1) this.#writeOneByOne(run, owner);
    else if (!this.#settle(error, packets, packetBytes)) this.#onDropped(owner, packets, packetBytes);
  }

  #writeOne(bytes: Uint8Array, offset: number, length: number): boolean {
    if (offset < 0 || length < 0 || offset + length > bytes.length) {
      throw new RangeError(`range ${offset}+${length} is outside a buffer of ${bytes.length} bytes`);
    }
    if (length > MAX_FLOW_PACKET_BYTES) return this.#settle(EMSGSIZE, 1, length);
    const header = this.#headerBytes;
    copyBytes(bytes, offset, this.#frame, header, length);
    return this.#settle(this.#write(this.#frameAddress, header + length), 1, length);
  }

  #addressOf(bytes: Uint8Array): number {
    let address = this.#runAddresses.get(bytes);
    if (address === undefined) {
      address = addressOf(bytes);
      this.#runAddresses.set(bytes, address);
    }
    return address;
  }

  /** The kernel is older than it seemed, or has rules that we do not know. */
  #writeOneByOne(run: FlowRun<Owner>, owner: Owner): void {
    const before = this.packets;
    const segmentation = new Segmentation(run.buffer);
    segmentation.start(0, run.length);
    while (segmentation.next()) this.writeAlone(run.buffer.bytes, segmentation.offset, segmentation.length, owner);
    if (this.packets === before) return; // it takes nothing at all: that says nothing about runs
    this.refusedRuns++;
    if (this.refusedRuns === MAX_RUN_REFUSALS) this.#coalescing?.stop();
  }

  #settle(error: number, packets: number, bytes: number): boolean {
    if (error !== 0) {
      this.drops += packets;
      this.lastErrno = error;
      return false;
    }
    this.packets += packets;
    this.bytes += bytes;
    return true;
  }

  /** 0, or the errno. */
  #write(address: number, length: number): number {
    for (;;) {
      this.writes++;
      if (write(this.#fd, address, length) >= 0) return 0;
      const error = errno();
      if (error === EBADF || error === EBADFD) this.#gone = true;
      if (error !== EINTR) return error;
    }
  }
}
