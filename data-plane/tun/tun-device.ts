import { writeFileSync } from 'node:fs';
import { InvalidPrefixError } from '../../shared/ip/prefix.ts';
import * as libc from '../os/libc.ts';
import { ipCommand } from './ip-command.ts';
import { checkMtu, InterfaceRequest, openTun, type TunOffload } from './open-tun.ts';
import { goneError } from './tun-error.ts';
import { type PacketHandler, TunReader } from './tun-reader.ts';
import { type DropHandler, TunWriter } from './tun-writer.ts';

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
  /** `off`: the kernel cuts and sums up itself, which costs a system call for each packet (default `auto`). */
  readonly offload?: 'auto' | 'off';
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
 * A network interface whose packets this process reads and writes without blocking, whole IP packets that fit its MTU: `receive`, `queue` and
 * `flush` for many of them, `read` and `write` for one. `received` and `sent` hold its counters.
 * The interface and its addresses and routes are gone when it is released or the process ends.
 */
export class TunDevice<Owner = undefined> {
  /** The name that the kernel gave. */
  readonly name: string;
  /** For a Poller: readable when a packet waits. */
  readonly fd: number;
  readonly offload: TunOffload;
  readonly received: TunReader;
  readonly sent: TunWriter<Owner>;
  #open = true;

  private constructor(fd: number, name: string, offload: TunOffload, onDropped: DropHandler<Owner>) {
    this.fd = fd;
    this.name = name;
    this.offload = offload;
    this.received = new TunReader(fd, name, offload !== 'off');
    this.sent = new TunWriter(fd, name, offload, onDropped);
  }

  /**
   * Makes the interface, down and without addresses. `onDropped` hears of queued packets that the kernel did not take. Throws TunError,
   * whose message names /dev/net/tun or the interface.
   */
  static open<Owner = undefined>(options: TunOptions, onDropped: DropHandler<Owner> = () => {}): TunDevice<Owner> {
    const { fd, name, offload } = openTun(options.name, options.offload ?? 'auto');
    const device = new TunDevice(fd, name, offload, onDropped);
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

  /** See TunReader.fill. */
  fill(): void {
    if (!this.#open) throw goneError(this.name);
    this.received.fill();
  }

  /** See TunReader.receive. */
  receive(handler: PacketHandler): number {
    if (!this.#open) throw goneError(this.name);
    return this.received.receive(handler);
  }

  /** See TunWriter.queue: call `flush` after the last one. */
  queue(bytes: Uint8Array, offset: number, length: number, owner: Owner): void {
    if (!this.#open) throw goneError(this.name);
    this.sent.queue(bytes, offset, length, owner);
  }

  flush(): void {
    if (!this.#open) throw goneError(this.name);
    this.sent.flush();
  }

  /**
   * Reads one packet to the start of `buffer` and returns its length, or 0 when none waits. A longer packet is cut, so the buffer has
   * room for the MTU. Throws TunError TUN_GONE when the interface was deleted.
   */
  read(buffer: Uint8Array, offset = 0): number {
    if (!this.#open) throw goneError(this.name);
    return this.received.read(buffer, offset);
  }

  /** Gives one packet to the kernel at once; false when it was dropped, which is counted. Throws TunError TUN_GONE. */
  write(buffer: Uint8Array, offset: number, length: number): boolean {
    if (!this.#open) throw goneError(this.name);
    return this.sent.write(buffer, offset, length);
  }

  /** Removes the interface. A second call does nothing. */
  release(): void {
    if (!this.#open) return;
    this.#open = false;
    libc.closeQuietly(this.fd);
  }
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
