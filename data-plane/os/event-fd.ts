import { check, closeQuietly, eventfd, read, write } from './libc.ts';

const EFD_NONBLOCK = 0x800;
const EFD_CLOEXEC = 0x80000;

/** What is added to the counter: 1, as the 8 bytes that eventfd(2) wants. */
const ONE = new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]);

/**
 * Wakes a thread that waits in a Poller. The thread that creates it owns it and closes it only when nobody signals any more: a
 * descriptor's number is reused by the kernel.
 */
export class EventFd {
  readonly fd: number;
  readonly #counter = new Uint8Array(8);

  private constructor(fd: number) {
    this.fd = fd;
  }

  static create(): EventFd {
    return new EventFd(check(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), 'eventfd', ''));
  }

  /** The same event in another thread, which got the number of the descriptor in a message. */
  static fromFd(fd: number): EventFd {
    return new EventFd(fd);
  }

  /** Makes the descriptor readable. Never blocks; a counter that is full has been signalled already. */
  signal(): void {
    write(this.fd, ONE, ONE.length);
  }

  /** Takes all signals since the last call; false when there were none. */
  drain(): boolean {
    return read(this.fd, this.#counter, this.#counter.length) === 8;
  }

  close(): void {
    closeQuietly(this.fd);
  }
}
