import { writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { InvalidPrefixError } from '../../shared/ip/prefix.ts';
import { BufferAddress } from '../os/buffer-address.ts';
import * as libc from '../os/libc.ts';
import { ipCommand } from './ip-command.ts';
import { checkMtu, InterfaceRequest, openTun } from './open-tun.ts';
import { TunError } from './tun-error.ts';

const { EAGAIN, EBADF, EINTR, EIO } = constants.errno;
/** What a TUN descriptor answers after its interface was deleted; Node does not name it. */
const EBADFD = 77;

const SIOCGIFMTU = 0x8921;
const SIOCSIFMTU = 0x8922;
const SIOCSIFTXQLEN = 0x8943;

/** Packets that the kernel may hold for us (ours): 500, the default, is below one bandwidth-delay product of a fast path. */
const TX_QUEUE_PACKETS = 1000;

/**
 * What makes a fresh interface quiet: no link-local address, no router solicitations, no answers to advertisements. IPv6 is switched
 * on last, for this interface alone: on many hosts, and in most containers, new interfaces have none.
 */
const IPV6_SETTINGS = {
  addr_gen_mode: 1,
  router_solicitations: 0,
  accept_ra: 0,
  autoconf: 0,
  accept_dad: 0,
  disable_ipv6: 0,
};

export interface TunOptions {
  /** Up to 15 characters; with `%d` the kernel picks a free number, e.g. `tun%d`. */
  readonly name: string;
  /** Bytes of the longest packet, 68 to 65,535; below 1280 the kernel carries no IPv6 on it. */
  readonly mtu: number;
}

export interface RouteOptions {
  /** The address that packets from this host get on the route. */
  readonly source?: string;
  /** Lower wins. */
  readonly metric?: number;
  /** A routing table other than main. */
  readonly table?: number;
}

/**
 * A network interface whose packets this process reads and writes, one whole IP packet at a time, without blocking.
 * The interface and its addresses and routes are gone when it is released or the process ends.
 */
export class TunDevice {
  /** The name that the kernel gave. */
  readonly name: string;
  /** For a Poller: readable when a packet waits. */
  readonly fd: number;

  /** Packets and bytes from the kernel and to it. */
  readPackets = 0;
  readBytes = 0;
  writtenPackets = 0;
  writtenBytes = 0;
  /** Packets that the kernel did not take: its queue was full, the interface was down, or it was no IP packet. */
  writeDrops = 0;
  /** The errno of the last of these, 0 if there was none. */
  lastWriteErrno = 0;

  readonly #readAddress = new BufferAddress();
  readonly #writeAddress = new BufferAddress();
  #open = true;

  private constructor(fd: number, name: string) {
    this.fd = fd;
    this.name = name;
  }

  /** Makes the interface, down and without addresses. Throws TunError, whose message names /dev/net/tun or the interface. */
  static open(options: TunOptions): TunDevice {
    const { fd, name } = openTun(options.name);
    const device = new TunDevice(fd, name);
    try {
      device.mtu = options.mtu;
      new InterfaceRequest(name).int(TX_QUEUE_PACKETS).call(SIOCSIFTXQLEN, 'SIOCSIFTXQLEN');
      for (const [setting, value] of Object.entries(IPV6_SETTINGS)) setIpv6(name, setting, value);
    } catch (error) {
      device.release();
      throw error;
    }
    return device;
  }

  get mtu(): number {
    return new InterfaceRequest(this.name).call(SIOCGIFMTU, 'SIOCGIFMTU').readInt();
  }

  /** Throws TunError. */
  set mtu(bytes: number) {
    checkMtu(this.name, bytes);
    new InterfaceRequest(this.name).int(bytes).call(SIOCSIFMTU, 'SIOCSIFMTU');
  }

  /**
   * Gives the interface an address, `10.99.0.1/26` or `fd00:99::1/120`: the host's own address and the network that is reached
   * through it. An address that it has is no error. Throws InvalidPrefixError or IpCommandError.
   */
  addAddress(prefix: string): void {
    const family = familyOf(prefix);
    const noDuplicateCheck = family === '-6' ? ['nodad'] : [];
    ipCommand([family, 'address', 'replace', prefix, 'dev', this.name, ...noDuplicateCheck]);
  }

  removeAddress(prefix: string): void {
    ipCommand([familyOf(prefix), 'address', 'delete', prefix, 'dev', this.name]);
  }

  up(): void {
    ipCommand(['link', 'set', 'dev', this.name, 'up']);
  }

  down(): void {
    ipCommand(['link', 'set', 'dev', this.name, 'down']);
  }

  /** Sends a network (`10.0.0.0/8`, `::/0`) through this interface, which must be up. A route that is there is replaced. */
  addRoute(prefix: string, options: RouteOptions = {}): void {
    const source = options.source === undefined ? [] : ['src', options.source];
    ipCommand([familyOf(prefix), 'route', 'replace', prefix, 'dev', this.name, ...source, ...routeKey(options)]);
  }

  removeRoute(prefix: string, options: RouteOptions = {}): void {
    ipCommand([familyOf(prefix), 'route', 'delete', prefix, 'dev', this.name, ...routeKey(options)]);
  }

  /**
   * Reads one packet to the start of `buffer` and returns its length, or 0 when none waits. A longer packet is cut, so the buffer has
   * room for the MTU. Throws TunError TUN_GONE when the interface was deleted.
   */
  read(buffer: Uint8Array, offset = 0): number {
    if (!this.#open) throw goneError(this.name);
    const room = buffer.length - offset;
    const length = libc.read(this.fd, this.#readAddress.at(buffer, offset, room), room);
    if (length > 0) {
      this.readPackets++;
      this.readBytes += length;
      return length;
    }
    if (length < 0) this.#checkReadErrno(libc.errno());
    return 0;
  }

  /** Gives one packet to the kernel; false when it was dropped, which is counted. Throws TunError TUN_GONE. */
  write(buffer: Uint8Array, offset: number, length: number): boolean {
    if (!this.#open) throw goneError(this.name);
    for (;;) {
      if (libc.write(this.fd, this.#writeAddress.at(buffer, offset, length), length) >= 0) break;
      const error = libc.errno();
      if (error === EINTR) continue;
      if (error === EBADF || error === EBADFD) throw goneError(this.name);
      this.writeDrops++;
      this.lastWriteErrno = error;
      return false;
    }
    this.writtenPackets++;
    this.writtenBytes += length;
    return true;
  }

  /** Removes the interface. A second call does nothing. */
  release(): void {
    if (!this.#open) return;
    this.#open = false;
    libc.closeQuietly(this.fd);
  }

  #checkReadErrno(error: number): void {
    // EIO: the interface is on its way out or down.
    if (error === EAGAIN || error === EINTR || error === EIO) return;
    throw goneError(this.name);
  }
}

function goneError(name: string): TunError {
  return new TunError('TUN_GONE', `TUN interface ${name} is released or was deleted`);
}

function routeKey(options: RouteOptions): string[] {
  const metric = options.metric === undefined ? [] : ['metric', String(options.metric)];
  const table = options.table === undefined ? [] : ['table', String(options.table)];
  return [...metric, ...table];
}

/** `ip` takes words like `default` in place of a prefix; here it is a prefix or an error. Host bits are allowed: 10.99.0.1/26. */
function familyOf(prefix: string): '-4' | '-6' {
  const parts = /^([0-9a-fA-F.:]+)\/(\d{1,3})$/.exec(prefix);
  if (parts === null) throw new InvalidPrefixError(prefix, 'expected something like 10.99.0.1/26 or fd00:99::1/120');
  return parts[1]?.includes(':') ? '-6' : '-4';
}

// Best effort: /proc/sys is read-only in some containers, and absent without IPv6. The interface works anyway, with more noise.
function setIpv6(name: string, setting: string, value: number): void {
  try {
    writeFileSync(`/proc/sys/net/ipv6/conf/${name}/${setting}`, String(value));
  } catch {}
}
