import { check, closeQuietly, setIntOption, socketpair } from '../os/libc.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;

/** Bytes that may wait for one shard (ours): of a pair of AF_UNIX only the sender's buffer counts, which the kernel doubles. */
const INBOX_BYTES = 1024 * 1024;

/** The descriptors of one shard: where it reads what others hand to it, and by which it hands something to each shard, by number. */
export interface HandoffDescriptors {
  readonly inbox: number;
  readonly outboxes: readonly number[];
}

/**
 * A socket pair for each shard: it reads from one end, all others write to the other one. They have no names, so nothing outside of
 * the process can write to them.
 */
export class HandoffSockets {
  readonly #pairs: readonly (readonly [number, number])[];
  #open = true;

  /** Throws OsError, e.g. EMFILE. */
  constructor(shards: number) {
    this.#pairs = Array.from({ length: shards }, datagramPair);
  }

  of(shard: number): HandoffDescriptors {
    return { inbox: this.#pairs[shard]?.[0] ?? -1, outboxes: this.#pairs.map(([, outbox]) => outbox) };
  }

  /** After all threads have ended: the number of a closed descriptor may soon be something else's. A second call does nothing. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    for (const fd of this.#pairs.flat()) closeQuietly(fd);
  }
}

function datagramPair(): readonly [number, number] {
  const fds = new Int32Array(2);
  check(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 'socketpair', '');
  const [inbox = -1, outbox = -1] = fds;
  setIntOption(outbox, SOL_SOCKET, SO_SNDBUF, INBOX_BYTES / 2);
  return [inbox, outbox];
}
