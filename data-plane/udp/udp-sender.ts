import { constants } from 'node:os';
import { copyBytes } from '../os/copy-bytes.ts';
import { addressOf, errno, sendmsg } from '../os/libc.ts';
import { OsError } from '../os/os-error.ts';
import { SOCKADDR_IN6_BYTES, type SocketAddress } from './socket-address.ts';

const { EAGAIN, EBADF, EINTR, EINVAL, EIO, ENOBUFS } = constants.errno;

/** Segments that one UDP_SEGMENT send may have on every kernel that knows it (newer ones take 128). */
const MAX_SEGMENTS = 64;
/** The longest UDP payload over IPv4; the kernel's limit for all segments together. */
export const MAX_DATAGRAM_BYTES = 65_507;
/** Runs in a row that the kernel refuses as a whole, and takes one by one, before we stop to offer them (ours). */
const MAX_GSO_REFUSALS = 8;

const SOL_UDP = 17;
const UDP_SEGMENT = 103;
/** struct cmsghdr with a 16-bit value, and its room with padding. */
const CMSG_BYTES = 18;
const CMSG_SPACE = 24;
const MSG_DONTWAIT = 0x40;
const MSGHDR_WORDS64 = 7;

/** 32-bit words inside struct msghdr and struct iovec, whose upper halves are set once or stay 0. */
const NAME_LENGTH = 2;
const CONTROL_LENGTH = 10;
const IOVEC_LENGTH = 2;

/**
 * Sends datagrams, runs of equal length to one peer in one system call. A datagram that the kernel does not take is counted and
 * gone: QUIC sees the loss and recovers.
 */
export class UdpSender {
  /** Datagrams that the kernel took, and their bytes. */
  datagrams = 0;
  bytes = 0;
  /** System calls made. */
  calls = 0;
  /** Datagrams dropped because the send buffer was full (EAGAIN, ENOBUFS). */
  dropped = 0;
  /** Datagrams that the kernel refused for another reason, e.g. ENETUNREACH, or EMSGSIZE when longer than the link's MTU. */
  errors = 0;
  /** The errno of the last refusal, 0 if there was none. */
  lastErrno = 0;
  /** Runs that the kernel refused as a whole and that were sent one by one. */
  gsoFallbacks = 0;

  readonly #fd: number;
  // The kernel gets the addresses of all of these.
  readonly #run = new Uint8Array(MAX_DATAGRAM_BYTES);
  readonly #name = new Uint8Array(SOCKADDR_IN6_BYTES);
  readonly #control = new Uint8Array(CMSG_SPACE);
  readonly #iovec = new Uint32Array(4);
  readonly #header: Uint32Array;
  readonly #runAddress: number;
  readonly #segmentSize: Uint16Array;

  #peer: SocketAddress | undefined;
  #length = 0;
  #segment = 0;
  #count = 0;
  #gso = true;
  #refusals = 0;

  constructor(fd: number) {
    this.#fd = fd;
    this.#runAddress = addressOf(this.#run);
    const control = new DataView(this.#control.buffer);
    control.setBigUint64(0, BigInt(CMSG_BYTES), true);
    control.setInt32(8, SOL_UDP, true);
    control.setInt32(12, UDP_SEGMENT, true);
    this.#segmentSize = new Uint16Array(this.#control.buffer, 16, 1);
    const header = new BigUint64Array(MSGHDR_WORDS64);
    header[0] = BigInt(addressOf(this.#name));
    header[2] = BigInt(addressOf(this.#iovec));
    header[3] = 1n;
    header[4] = BigInt(addressOf(this.#control));
    this.#header = new Uint32Array(header.buffer);
  }

  /** False after the kernel has refused UDP_SEGMENT for good; runs are sent one by one then. */
  get usesGso(): boolean {
    return this.#gso;
  }

  /**
   * Adds a datagram to the run, copying it. Sends the run first when this one does not fit: another peer, a longer one, or one after
   * a shorter one. Throws RangeError when it is empty or longer than 65,507 bytes.
   */
  queue(bytes: Uint8Array, offset: number, length: number, peer: SocketAddress): void {
    if (length <= 0 || length > MAX_DATAGRAM_BYTES || offset < 0 || offset + length > bytes.length) {
      throw new RangeError(`a datagram of ${length} bytes at ${offset} in a buffer of ${bytes.length}`);
    }
    if (
      this.#count > 0 &&
      (peer !== this.#peer || length > this.#segment || this.#length + length > MAX_DATAGRAM_BYTES)
    ) {
      this.flush();
    }
    if (peer !== this.#peer) this.#setPeer(peer);
    if (this.#count === 0) this.#segment = length;
    copyBytes(bytes, offset, this.#run, this.#length, length);
    this.#length += length;
    this.#count++;
    if (length < this.#segment || this.#count === MAX_SEGMENTS || !this.#gso) this.flush();
  }

  /** Sends what is queued. Throws OsError only when the socket is closed. */
  flush(): void {
    const count = this.#count;
    if (count === 0) return;
    const length = this.#length;
    this.#count = 0;
    this.#length = 0;
    const error = this.#send(0, length, count > 1 ? this.#segment : 0);
    if (error === 0) {
      this.datagrams += count;
      this.bytes += length;
      if (count > 1) this.#refusals = 0;
    } else if (count > 1 && (error === EINVAL || error === EIO)) {
      this.#sendOneByOne(length, error);
    } else {
      this.#noteRefusal(error, count);
    }
  }

  // EIO: the device computes no checksums. EINVAL: an older kernel, or segments longer than the path's MTU; the latter are refused one
  // by one too, which says nothing about UDP_SEGMENT.
  #sendOneByOne(length: number, error: number): void {
    const before = this.datagrams;
    this.gsoFallbacks++;
    for (let offset = 0; offset < length; offset += this.#segment) {
      const bytes = Math.min(this.#segment, length - offset);
      const single = this.#send(offset, bytes, 0);
      if (single === 0) {
        this.datagrams++;
        this.bytes += bytes;
      } else {
        this.#noteRefusal(single, 1);
      }
    }
    if (this.datagrams > before) this.#refusals++;
    if (error === EIO || this.#refusals >= MAX_GSO_REFUSALS) this.#gso = false;
  }

  /** 0, or the errno. */
  #send(offset: number, length: number, segmentSize: number): number {
    const start = this.#runAddress + offset;
    this.#iovec[0] = start % 2 ** 32;
    this.#iovec[1] = Math.floor(start / 2 ** 32);
    this.#iovec[IOVEC_LENGTH] = length;
    this.#segmentSize[0] = segmentSize;
    this.#header[CONTROL_LENGTH] = segmentSize > 0 ? CMSG_SPACE : 0;
    for (;;) {
      this.calls++;
      if (sendmsg(this.#fd, this.#header, MSG_DONTWAIT) >= 0) return 0;
      const error = errno();
      if (error !== EINTR) return error;
    }
  }

  #noteRefusal(error: number, datagrams: number): void {
    if (error === EBADF) throw new OsError('sendmsg', `descriptor ${this.#fd}`, error);
    this.lastErrno = error;
    if (error === EAGAIN || error === ENOBUFS) this.dropped += datagrams;
    else this.errors += datagrams;
  }

  #setPeer(peer: SocketAddress): void {
    this.#peer = peer;
    this.#name.set(peer.bytes);
    this.#header[NAME_LENGTH] = peer.bytes.length;
  }
}
