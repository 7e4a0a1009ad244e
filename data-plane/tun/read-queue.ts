import { WordBuffer } from '../ip/word-buffer.ts';
import { createFlowPacket, inspectFlow } from './flow-packet.ts';

/** One read from a TUN device that waits for its turn: up to 64 KiB of one flow. */
export interface WaitingRead {
  readonly buffer: WordBuffer;
  length: number;
  /** Its start tag. */
  start: number;
}

/** Reads that wait at once (ours): with all of them as long as can be, 4 MiB, which is 30 ms at 1 Gbit/s. */
const MAX_READS = 64;

/**
 * Reads in the order of start-time fair queueing: each flow is served by the bytes it had already, so a ping or the first packets of a
 * connection need not wait behind a bulk transfer that fills the device. Packets of one flow stay in order.
 */
export class ReadQueue {
  readonly #readBytes: number;
  readonly #packetOffset: number;
  readonly #waiting: WaitingRead[] = [];
  readonly #free: WaitingRead[] = [];
  readonly #flow = createFlowPacket();
  /** Where the next read of a flow starts, by the flow's hash; forgotten when nothing waits. */
  readonly #finish = new Map<number, number>();
  #made = 0;
  /** The start tag of what is served. */
  #now = 0;

  /** `readBytes`: what one read may bring; `packetOffset`: where the packet begins in it. */
  constructor(readBytes: number, packetOffset: number) {
    this.#readBytes = readBytes;
    this.#packetOffset = packetOffset;
  }

  get length(): number {
    return this.#waiting.length;
  }

  /** Room for one more read, or undefined when enough wait. Goes back by `add` or `release`. */
  acquire(): WaitingRead | undefined {
    const free = this.#free.pop();
    if (free !== undefined || this.#made === MAX_READS) return free;
    this.#made++;
    return { buffer: new WordBuffer(this.#readBytes), length: 0, start: 0 };
  }

  release(read: WaitingRead): void {
    this.#free.push(read);
  }

  add(read: WaitingRead, length: number): void {
    const { bytes } = read.buffer;
    const verdict = inspectFlow(bytes, this.#packetOffset, length - this.#packetOffset, this.#flow);
    // What belongs to no flow is one, e.g. all pings.
    const flow = verdict === 'other' ? 0 : this.#flow.hash;
    read.length = length;
    read.start = Math.max(this.#now, this.#finish.get(flow) ?? 0);
    this.#finish.set(flow, read.start + length);
    this.#waiting.push(read);
  }

  /** The read whose turn it is. */
  take(): WaitingRead | undefined {
    let next = 0;
    for (let i = 1; i < this.#waiting.length; i++) {
      if (this.#waiting[i]!.start < this.#waiting[next]!.start) next = i;
    }
    const [read] = this.#waiting.splice(next, 1);
    if (read === undefined) return undefined;
    this.#now = read.start;
    if (this.#waiting.length === 0) {
      this.#finish.clear();
      this.#now = 0;
    }
    return read;
  }
}
