import { constants } from 'node:os';
import * as libc from '../os/libc.ts';
import { errnoName, OsError } from '../os/os-error.ts';
import {
  AF_INET,
  AF_INET6,
  decodeSocketAddress,
  parseSocketAddress,
  SOCKADDR_IN6_BYTES,
  type SocketAddress,
} from './socket-address.ts';
import { SocketAddressCache } from './socket-address-cache.ts';
import { type DatagramHandler, UdpReceiver } from './udp-receiver.ts';
import { UdpSender } from './udp-sender.ts';

const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_REUSEPORT = 15;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const IPPROTO_IP = 0;
const IP_MTU_DISCOVER = 10;
const IP_RECVERR = 11;
const IPPROTO_IPV6 = 41;
const IPV6_MTU_DISCOVER = 23;
const IPV6_RECVERR = 25;
const IPV6_V6ONLY = 26;
/** Sets DF and ignores what ICMP says about the path: QUIC finds the MTU itself and must not be fragmented (RFC 9000, 14). */
const PMTUDISC_PROBE = 3;
const SOL_UDP = 17;
const UDP_GRO = 104;

/** What the kernel makes of ICMP errors other than those about the MTU: port, host or network unreachable, or prohibited. */
const { EACCES, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH } = constants.errno;
const REFUSALS: ReadonlySet<number> = new Set([EACCES, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH]);

/** Bytes that the kernel may hold for us in each direction (ours): at 1 Gbit/s about 60 ms. */
export const DEFAULT_BUFFER_BYTES = 8 * 1024 * 1024;

export interface UdpSocketOptions {
  /** Kernel buffers in bytes; without CAP_NET_ADMIN the system's maximum limits them. */
  readonly recvBufferBytes?: number;
  readonly sendBufferBytes?: number;
  /** Let the kernel put equal datagrams of one peer together (default true; kernels before 5.0 cannot, which is not an error). */
  readonly gro?: boolean;
  /** A `[::]` socket takes IPv4 too, as `[::ffff:192.0.2.1]:port` (default false). */
  readonly dualStack?: boolean;
  /** Peers to remember, see SocketAddressCache. */
  readonly maxPeers?: number;
  /**
   * Several sockets on one address, over which the kernel spreads peers: the `first` finds the address free, or fails, and lets those that
   * `join` in after it.
   */
  readonly share?: 'first' | 'join';
}

/** A non-blocking UDP socket with batched I/O. `received` and `sent` hold its counters. */
export class UdpSocket {
  readonly fd: number;
  /** With the port that the kernel picked. */
  readonly localAddress: SocketAddress;
  readonly gro: boolean;
  readonly peers: SocketAddressCache;
  readonly received: UdpReceiver;
  readonly sent: UdpSender;
  #open = true;

  private constructor(fd: number, localAddress: SocketAddress, gro: boolean, peers: SocketAddressCache) {
    this.fd = fd;
    this.localAddress = localAddress;
    this.gro = gro;
    this.peers = peers;
    this.received = new UdpReceiver(fd, peers);
    this.sent = new UdpSender(fd);
  }

  /**
   * Binds to `ip:port` or `[ipv6]:port`; port 0 lets the kernel pick, so a client binds `0.0.0.0:0`. Throws InvalidSocketAddressError, or
   * OsError such as EADDRINUSE ("bind 0.0.0.0:4433: address already in use").
   */
  static bind(listenAddress: string, options: UdpSocketOptions = {}): UdpSocket {
    const address = parseSocketAddress(listenAddress);
    const domain = address.family === 4 ? AF_INET : AF_INET6;
    const fd = libc.check(libc.socket(domain, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), 'socket', address.text);
    try {
      setBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, options.recvBufferBytes ?? DEFAULT_BUFFER_BYTES);
      setBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, options.sendBufferBytes ?? DEFAULT_BUFFER_BYTES);
      if (address.family === 6) libc.setIntOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, options.dualStack === true ? 0 : 1);
      if (address.family === 6) libc.setIntOption(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE);
      // Also on an IPv6 socket, for the IPv4 that a dual-stack one carries.
      libc.setIntOption(fd, IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE);
      const gro = options.gro !== false && libc.setIntOption(fd, SOL_UDP, UDP_GRO, 1);
      if (options.share === 'join') allowSharing(fd, address);
      libc.check(libc.bind(fd, address.bytes, address.bytes.length), 'bind', address.text);
      // Not before: sockets of another program that share would not be in its way.
      if (options.share === 'first') allowSharing(fd, address);
      return new UdpSocket(fd, localAddressOf(fd, address.text), gro, new SocketAddressCache(options.maxPeers));
    } catch (error) {
      libc.closeQuietly(fd);
      throw error;
    }
  }

  /** The kernel's receive buffer in bytes, as it accounts for it (twice what was asked for, or its limit). */
  get recvBufferBytes(): number {
    return libc.getIntOption(this.fd, SOL_SOCKET, SO_RCVBUF, this.localAddress.text);
  }

  /** While it is on, ICMP errors make the descriptor readable, and show in `refusal`; they are kept by the kernel until it is off again. */
  reportRefusals(on: boolean): void {
    const [level, option] = this.localAddress.family === 4 ? [IPPROTO_IP, IP_RECVERR] : [IPPROTO_IPV6, IPV6_RECVERR];
    libc.setIntOption(this.fd, level, option, on ? 1 : 0);
  }

  /** Whether a peer or a router said that what was sent does not arrive, and how: the name of an errno. */
  get refusal(): string | undefined {
    const refusal = [this.received.lastErrno, this.sent.lastErrno].find((error) => REFUSALS.has(error));
    return refusal === undefined ? undefined : errnoName(refusal);
  }

  /** See UdpReceiver.receive. */
  receive(handler: DatagramHandler): number {
    if (!this.#open) throw closedError('recvmmsg', this.localAddress);
    return this.received.receive(handler);
  }

  /** See UdpSender.queue: call `flush` after the last one. */
  queue(bytes: Uint8Array, offset: number, length: number, peer: SocketAddress): void {
    if (!this.#open) throw closedError('sendmsg', this.localAddress);
    this.sent.queue(bytes, offset, length, peer);
  }

  flush(): void {
    if (!this.#open) throw closedError('sendmsg', this.localAddress);
    this.sent.flush();
  }

  /** Closes the socket; queued datagrams that were not flushed are gone. A second call does nothing. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    libc.closeQuietly(this.fd);
  }
}

// The number of a closed descriptor may belong to something else already, so the kernel is not asked.
function closedError(syscall: string, address: SocketAddress): OsError {
  return new OsError(syscall, address.text, constants.errno.EBADF, 'the socket is closed');
}

function allowSharing(fd: number, address: SocketAddress): void {
  libc.check(libc.setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, new Int32Array([1]), 4), 'SO_REUSEPORT', address.text);
}

/** The forced option goes beyond the system's maximum, if we are allowed to. */
function setBuffer(fd: number, forced: number, ordinary: number, bytes: number): void {
  if (!libc.setIntOption(fd, SOL_SOCKET, forced, bytes)) libc.setIntOption(fd, SOL_SOCKET, ordinary, bytes);
}

function localAddressOf(fd: number, subject: string): SocketAddress {
  const bytes = new Uint8Array(SOCKADDR_IN6_BYTES);
  libc.check(libc.getsockname(fd, bytes, new Uint32Array([bytes.length])), 'getsockname', subject);
  return decodeSocketAddress(bytes, 0);
}
