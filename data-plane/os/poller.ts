import { constants } from 'node:os';
import { check, errno, poll } from './libc.ts';
import { OsError } from './os-error.ts';

const { EBADF, EINTR } = constants.errno;

const POLLIN = 0x001;
const POLLOUT = 0x004;
const POLLERR = 0x008;
const POLLHUP = 0x010;
const POLLNVAL = 0x020;

/** Bytes of struct pollfd: int fd, short events, short revents. */
const POLLFD_BYTES = 8;
/** Longest wait that poll(2) takes, in ms. */
const MAX_TIMEOUT_MS = 0x7fffffff;

/** Waits for descriptors to become readable, or writable where that is asked for, blocking the calling thread. */
export class Poller {
  #fds: Int32Array;
  #events: Int16Array;
  #count = 0;

  constructor() {
    this.#fds = new Int32Array(0);
    this.#events = new Int16Array(0);
    this.#resize(8);
  }

  /** Starts to watch for reading, and returns the descriptor's slot, by which it is asked about. Slots of others stay as they are. */
  add(fd: number): number {
    for (let slot = 0; slot < this.#count; slot++) {
      if (this.#fds[slot * 2] === -1) return this.#set(slot, fd);
    }
    if (this.#count * 2 === this.#fds.length) this.#resize(this.#count * 2);
    return this.#set(this.#count++, fd);
  }

  /** Stops watching; do it before closing the descriptor. */
  remove(fd: number): void {
    for (let slot = 0; slot < this.#count; slot++) {
      if (this.#fds[slot * 2] === fd) this.#set(slot, -1); // poll(2) skips negative descriptors
    }
  }

  /** Whether the descriptor in a slot is watched for writing too. */
  watchWritable(slot: number, watched: boolean): void {
    this.#events[slot * 4 + 2] = watched ? POLLIN | POLLOUT : POLLIN;
  }

  /**
   * Blocks until something is ready or `timeoutMs` have passed (rounded up; below 0 is for ever) and returns how many
   * descriptors are ready. A signal ends the wait with 0. Throws OsError, EBADF when a watched descriptor was closed.
   */
  wait(timeoutMs: number): number {
    const timeout = timeoutMs < 0 ? -1 : Math.min(Math.ceil(timeoutMs), MAX_TIMEOUT_MS);
    const ready = poll(this.#fds, this.#count, timeout);
    if (ready > 0) this.#rejectClosed();
    if (ready >= 0) return ready;
    this.#clearReady();
    if (errno() === EINTR) return 0;
    return check(ready, 'poll', '');
  }

  /** Whether the last wait found something to read there: data, or an error that the next read reports. */
  isReadable(slot: number): boolean {
    return ((this.#events[slot * 4 + 3] ?? 0) & (POLLIN | POLLERR | POLLHUP)) !== 0;
  }

  /** Whether the last wait found room to write there. */
  isWritable(slot: number): boolean {
    return ((this.#events[slot * 4 + 3] ?? 0) & POLLOUT) !== 0;
  }

  /** Whether the last wait found that nothing can come or go there any more: the other end of a stream of AF_UNIX is closed, if ours has not ended. */
  isHungUp(slot: number): boolean {
    return ((this.#events[slot * 4 + 3] ?? 0) & POLLHUP) !== 0;
  }

  #set(slot: number, fd: number): number {
    this.#fds[slot * 2] = fd;
    this.#events[slot * 4 + 2] = POLLIN;
    this.#events[slot * 4 + 3] = 0;
    return slot;
  }

  #resize(slots: number): void {
    const bytes = new Uint8Array(slots * POLLFD_BYTES);
    bytes.set(new Uint8Array(this.#fds.buffer));
    this.#fds = new Int32Array(bytes.buffer);
    this.#events = new Int16Array(bytes.buffer);
  }

  #clearReady(): void {
    for (let slot = 0; slot < this.#count; slot++) this.#events[slot * 4 + 3] = 0;
  }

  // A closed descriptor makes poll return at once, every time: that would be a busy loop.
  #rejectClosed(): void {
    for (let slot = 0; slot < this.#count; slot++) {
      if (((this.#events[slot * 4 + 3] ?? 0) & POLLNVAL) !== 0) {
        throw new OsError('poll', `descriptor ${this.#fds[slot * 2]}`, EBADF);
      }
    }
  }
}
