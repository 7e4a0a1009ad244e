import { constants as fsConstants } from 'node:fs';
import { constants } from 'node:os';
import { describeValue } from '../../shared/describe-value.ts';
import * as libc from '../os/libc.ts';
import { OsError } from '../os/os-error.ts';
import { TunError } from './tun-error.ts';
import { tunName } from './tun-name-option.ts';
import { VNET_HEADER_BYTES } from './vnet-header.ts';

const { EACCES, EBUSY, EINVAL, ENODEV, ENOENT, ENXIO, EPERM } = constants.errno;

const TUN_PATH = '/dev/net/tun';
const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETVNETHDRSZ = 0x400454d8;
/** Layer 3, without the 4 bytes of packet information. */
const IFF_TUN = 0x0001;
const IFF_NO_PI = 0x1000;
/** A vnet header before each packet. */
const IFF_VNET_HDR = 0x4000;
/** What we cut and sum up ourselves: TCP in both families, also with ECN. The kernel takes UDP in both families at once, from 6.2 on. */
const TUN_F_CSUM_AND_TSO = 0x01 | 0x02 | 0x04 | 0x08;
const TUN_F_USO = 0x20 | 0x40;

/** struct ifreq: a name of 16 bytes, then a union. */
const IFREQ_BYTES = 40;
const IFNAME_BYTES = 16;

/** Limits of an IPv4 link (RFC 791) and of the TUN driver. */
const MIN_MTU = 68;
const MAX_MTU = 65_535;

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0x80000;

/** A struct ifreq for the ioctls on interfaces. */
export class InterfaceRequest {
  readonly bytes = Buffer.alloc(IFREQ_BYTES);
  readonly #name: string;

  constructor(name: string) {
    this.#name = name;
    this.bytes.write(name, 0, IFNAME_BYTES - 1, 'latin1');
  }

  int(value: number): this {
    this.bytes.writeInt32LE(value, IFNAME_BYTES);
    return this;
  }

  readInt(): number {
    return this.bytes.readInt32LE(IFNAME_BYTES);
  }

  readName(): string {
    return this.bytes.toString('latin1', 0, this.bytes.indexOf(0));
  }

  /** Makes the ioctl on a socket of this network namespace. Throws TunError, TUN_GONE when there is no such interface. */
  call(request: number, requestName: string): this {
    const fd = libc.check(libc.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0), 'socket', requestName);
    const error = libc.ioctl(fd, request, this.bytes) < 0 ? libc.errno() : 0;
    libc.closeQuietly(fd);
    if (error === 0) return this;
    const cause = new OsError('ioctl', requestName, error);
    const code =
      error === ENODEV || error === ENXIO ? 'TUN_GONE' : error === EPERM ? 'TUN_NOT_PERMITTED' : 'TUN_FAILED';
    throw new TunError(code, `TUN interface ${this.#name}: ${cause.message}`, { cause });
  }
}

/**
 * What the kernel leaves to us on a TUN device: nothing, cutting TCP into segments, or cutting TCP and UDP. On all but `off` a vnet header
 * comes before each packet, in both directions.
 */
export type TunOffload = 'off' | 'tcp' | 'tcp-udp';

/** Opens /dev/net/tun and makes the interface; `auto` takes what the kernel has. Throws TunError. */
export function openTun(name: string, offload: 'auto' | 'off'): { fd: number; name: string; offload: TunOffload } {
  checkName(name);
  if (offload === 'auto') {
    const { fd, request, errno } = makeInterface(name, IFF_VNET_HDR);
    const taken = errno === 0 ? takeOffload(fd) : 'off';
    if (taken !== 'off') return { fd, name: request.readName(), offload: taken };
    libc.closeQuietly(fd);
  }
  const { fd, request, errno } = makeInterface(name, 0);
  if (errno === 0) return { fd, name: request.readName(), offload: 'off' };
  libc.closeQuietly(fd);
  throw interfaceError(name, errno);
}

function makeInterface(name: string, flags: number): { fd: number; request: InterfaceRequest; errno: number } {
  const fd = libc.open(TUN_PATH, fsConstants.O_RDWR | fsConstants.O_NONBLOCK | libc.O_CLOEXEC);
  if (fd < 0) throw openError(libc.errno());
  const request = new InterfaceRequest(name);
  request.bytes.writeUInt16LE(IFF_TUN | IFF_NO_PI | flags, IFNAME_BYTES);
  return { fd, request, errno: libc.ioctl(fd, TUNSETIFF, request.bytes) < 0 ? libc.errno() : 0 };
}

function takeOffload(fd: number): TunOffload {
  // A device that was there before can have another size.
  if (libc.ioctl(fd, TUNSETVNETHDRSZ, new Int32Array([VNET_HEADER_BYTES])) < 0) return 'off';
  // This argument is no pointer, but the bits themselves.
  if (libc.ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM_AND_TSO | TUN_F_USO) >= 0) return 'tcp-udp';
  return libc.ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM_AND_TSO) >= 0 ? 'tcp' : 'off';
}

export function checkMtu(name: string, mtu: number): void {
  if (Number.isInteger(mtu) && mtu >= MIN_MTU && mtu <= MAX_MTU) return;
  throw new TunError(
    'TUN_INVALID',
    `TUN interface ${name}: an MTU of ${mtu} bytes; allowed are ${MIN_MTU} to ${MAX_MTU}`,
  );
}

function checkName(name: string): void {
  if (tunName.parse(name) !== undefined) return;
  throw new TunError('TUN_INVALID', `TUN interface: got ${describeValue(name)}, expected ${tunName.expected}`);
}

function openError(errno: number): TunError {
  const cause = new OsError('open', TUN_PATH, errno);
  if (errno === ENOENT || errno === ENXIO || errno === ENODEV) {
    return new TunError('TUN_MISSING', `${TUN_PATH} is missing: load the kernel module "tun" (modprobe tun)`, {
      cause,
    });
  }
  if (errno === EACCES || errno === EPERM) {
    return new TunError('TUN_NOT_PERMITTED', `${TUN_PATH} may not be opened: run as root or with CAP_NET_ADMIN`, {
      cause,
    });
  }
  return new TunError('TUN_FAILED', cause.message, { cause });
}

function interfaceError(name: string, errno: number): TunError {
  const cause = new OsError('ioctl', 'TUNSETIFF', errno);
  if (errno === EPERM) {
    return new TunError('TUN_NOT_PERMITTED', `${TUN_PATH}: no right to make interface ${name} (CAP_NET_ADMIN)`, {
      cause,
    });
  }
  if (errno === EBUSY) return new TunError('TUN_BUSY', `TUN interface ${name} is in use by another process`, { cause });
  if (errno === EINVAL) {
    return new TunError('TUN_INVALID', `${name} exists and is no TUN interface, or cannot be one`, { cause });
  }
  return new TunError('TUN_FAILED', `TUN interface ${name}: ${cause.message}`, { cause });
}
