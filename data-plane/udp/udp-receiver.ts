import { constants } from 'node:os';
import { addressOf, errno, recvmmsg } from '../os/libc.ts';
import { OsError } from '../os/os-error.ts';
import type { SocketAddress } from './socket-address.ts';
import type { SocketAddressCache } from './socket-address-cache.ts';

const { EAGAIN, EBADF, EINTR } = constants.errno;

/** Called for each datagram. The bytes are good until the handler returns. */
export type DatagramHandler = (bytes: Uint8Array, offset: number, length: number, peer: SocketAddress) => void;

/** Messages taken by one system call (ours); each can be up to 64 coalesced datagrams, which take QUIC half a millisecond. */
export const RECEIVE_BATCH = 8;
/** The longest message: a UDP datagram, or the datagrams that UDP_GRO put together, is at most 65,535 bytes. */
const MESSAGE_BYTES = 65_536;
/** Room for a sockaddr_in6, aligned. */
const NAME_BYTES = 32;
const NAME_WORDS = NAME_BYTES / 4;
/** Room for the one control message that we ask for, UDP_GRO: 16 bytes of header, 4 of value, 4 of padding; and as much again. */
const CONTROL_BYTES = 48;
const CONTROL_WORDS = CONTROL_BYTES / 4;
const IOVEC_WORDS = 2;
/** struct mmsghdr in 64-bit and in 32-bit words. */
const MMSGHDR_WORDS64 = 8;
const MMSGHDR_WORDS32 = 16;

/** 32-bit words inside struct mmsghdr. */
const NAME_LENGTH = 2;
const CONTROL_LENGTH = 10;
const FLAGS = 12;
const MESSAGE_LENGTH = 14;

const SOL_UDP = 17;
const UDP_GRO = 104;
const GRO_CMSG_BYTES = 20;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;

/** Takes datagrams from a socket, many in a system call, and undoes the kernel's coalescing. */
export class UdpReceiver {
  /** Datagrams given to the handler, and their bytes. */
  datagrams = 0;
  bytes = 0;
  /** System calls that brought something. */
  batches = 0;
  /** Messages dropped because they were longer than the buffer. */
  truncated = 0;
  /** Errors that the socket reported instead of data, e.g. ECONNREFUSED after an ICMP message. */
  errors = 0;
  /** The errno of the last of them, 0 if there was none. */
  lastErrno = 0;

  readonly #fd: number;
  readonly #peers: SocketAddressCache;
  // The kernel holds the addresses of all of these.
  readonly #data = new Uint8Array(RECEIVE_BATCH * MESSAGE_BYTES);
  readonly #names = new Int32Array(RECEIVE_BATCH * NAME_WORDS);
  readonly #control = new Int32Array(RECEIVE_BATCH * CONTROL_WORDS);
  readonly #iovecs = new BigUint64Array(RECEIVE_BATCH * IOVEC_WORDS);
  readonly #headers: Uint32Array;
  #used = RECEIVE_BATCH;

  constructor(fd: number, peers: SocketAddressCache) {
    this.#fd = fd;
    this.#peers = peers;
    const headers = new BigUint64Array(RECEIVE_BATCH * MMSGHDR_WORDS64);
    for (let i = 0; i < RECEIVE_BATCH; i++) {
      this.#iovecs[i * IOVEC_WORDS] = BigInt(addressOf(this.#data) + i * MESSAGE_BYTES);
      this.#iovecs[i * IOVEC_WORDS + 1] = BigInt(MESSAGE_BYTES);
      const header = i * MMSGHDR_WORDS64;
      headers[header] = BigInt(addressOf(this.#names) + i * NAME_BYTES);
      headers[header + 2] = BigInt(addressOf(this.#iovecs) + i * IOVEC_WORDS * 8);
      headers[header + 3] = 1n;
      headers[header + 4] = BigInt(addressOf(this.#control) + i * CONTROL_BYTES);
    }
    this.#headers = new Uint32Array(headers.buffer);
  }

  /**
   * One system call: hands what is waiting to the handler, up to RECEIVE_BATCH messages, and returns how many datagrams that were; 0 when there
   * was nothing. What the handler throws passes through and costs the rest of the batch. Throws OsError when the socket is closed.
   */
  receive(handler: DatagramHandler): number {
    this.#reset();
    const messages = recvmmsg(this.#fd, this.#headers, RECEIVE_BATCH, MSG_DONTWAIT, null);
    if (messages < 0) {
      this.#used = 0;
      return this.#noteError(errno());
    }
    this.#used = messages;
    this.batches++;
    const before = this.datagrams;
    for (let i = 0; i < messages; i++) this.#deliver(i, handler);
    return this.datagrams - before;
  }

  #deliver(i: number, handler: DatagramHandler): void {
    const header = i * MMSGHDR_WORDS32;
    const length = this.#headers[header + MESSAGE_LENGTH]!;
    if ((this.#headers[header + FLAGS]! & MSG_TRUNC) !== 0) {
      this.truncated++;
      return;
    }
    const peer = this.#peers.fromWords(this.#names, i * NAME_WORDS);
    const size = this.#segmentSize(i) || length;
    const start = i * MESSAGE_BYTES;
    this.bytes += length;
    let offset = 0;
    do {
      const bytes = Math.min(size, length - offset);
      this.datagrams++;
      handler(this.#data, start + offset, bytes, peer);
      offset += bytes;
    } while (offset < length);
  }

  /** What each coalesced datagram but the last is long, or 0 when the message is one datagram. */
  #segmentSize(i: number): number {
    if (this.#headers[i * MMSGHDR_WORDS32 + CONTROL_LENGTH]! < GRO_CMSG_BYTES) return 0;
    const at = i * CONTROL_WORDS;
    const isGro = this.#control[at + 2] === SOL_UDP && this.#control[at + 3] === UDP_GRO;
    return isGro ? Math.max(0, this.#control[at + 4]!) : 0;
  }

  // The kernel overwrites the lengths of the messages that it fills.
  #reset(): void {
    for (let i = 0; i < this.#used; i++) {
      const header = i * MMSGHDR_WORDS32;
      this.#headers[header + NAME_LENGTH] = NAME_BYTES;
      this.#headers[header + CONTROL_LENGTH] = CONTROL_BYTES;
    }
  }

  #noteError(code: number): 0 {
    if (code === EBADF) throw new OsError('recvmmsg', `descriptor ${this.#fd}`, code);
    if (code === EAGAIN || code === EINTR) return 0;
    this.errors++;
    this.lastErrno = code;
    return 0;
  }
}
