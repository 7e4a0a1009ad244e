import koffi from 'koffi';
import { OsError } from './os-error.ts';

/**
 * The system calls of the packet path, called directly (about 0.2 us each plus the kernel's time). Struct layouts and constants
 * are those of 64-bit little-endian Linux, the same on x86-64 and arm64. A result below 0 means that `errno()` says why.
 *
 * Pointers are a typed array or a number from `addressOf`. The kernel writes through addresses that sit inside iovec and msghdr
 * structures without the garbage collector knowing: whoever builds such a structure keeps the buffers in fields of its own.
 */
type Pointer = Uint8Array | Uint32Array | Int32Array | number | null;

// Symbols of the running process: Node is linked to libc already, whether that is glibc or musl.
const library = koffi.load(null);

export const open = library.func('int open(const char *path, int flags)') as (path: string, flags: number) => number;
export const close = library.func('int close(int fd)') as (fd: number) => number;
export const read = library.func('intptr_t read(int fd, void *data, size_t length)') as IoCall;
export const write = library.func('intptr_t write(int fd, const void *data, size_t length)') as IoCall;
export const ioctl = library.func('int ioctl(int fd, unsigned long request, void *argument)') as (
  fd: number,
  request: number,
  argument: Pointer,
) => number;
export const poll = library.func('int poll(void *fds, unsigned long count, int timeout)') as (
  fds: Pointer,
  count: number,
  timeoutMs: number,
) => number;
export const eventfd = library.func('int eventfd(unsigned int initial, int flags)') as (
  initial: number,
  flags: number,
) => number;
export const socket = library.func('int socket(int domain, int type, int protocol)') as (
  domain: number,
  type: number,
  protocol: number,
) => number;
export const socketpair = library.func('int socketpair(int domain, int type, int protocol, void *fds)') as (
  domain: number,
  type: number,
  protocol: number,
  fds: Int32Array,
) => number;
export const shutdown = library.func('int shutdown(int fd, int how)') as (fd: number, how: number) => number;
export const bind = library.func('int bind(int fd, const void *address, uint32_t length)') as IoCall;
export const getsockname = library.func('int getsockname(int fd, void *address, void *length)') as (
  fd: number,
  address: Pointer,
  length: Pointer,
) => number;
export const setsockopt = library.func(
  'int setsockopt(int fd, int level, int option, const void *value, uint32_t length)',
) as SocketOptionCall<number>;
export const getsockopt = library.func(
  'int getsockopt(int fd, int level, int option, void *value, void *length)',
) as SocketOptionCall<Pointer>;
export const send = library.func('intptr_t send(int fd, const void *data, size_t length, int flags)') as (
  fd: number,
  data: Pointer,
  length: number,
  flags: number,
) => number;
export const recvmmsg = library.func(
  'int recvmmsg(int fd, void *messages, unsigned int count, int flags, void *timeout)',
) as (fd: number, messages: Pointer, count: number, flags: number, timeout: null) => number;
export const sendmsg = library.func('intptr_t sendmsg(int fd, const void *message, int flags)') as (
  fd: number,
  message: Pointer,
  flags: number,
) => number;

type IoCall = (fd: number, data: Pointer, length: number) => number;
type SocketOptionCall<Length> = (fd: number, level: number, option: number, value: Pointer, length: Length) => number;

/** For `open`; Node does not name it. Children must not inherit descriptors: an inherited TUN keeps its interface alive. */
export const O_CLOEXEC = 0x80000;

/** Why the last call of this thread failed. Read it before anything else is called. */
export const errno: () => number = () => koffi.errno();

/** Where the bytes of a typed array are, good as long as the array is referenced and its memory is not detached. */
export function addressOf(bytes: ArrayBufferView): number {
  return Number(koffi.address(bytes));
}

/** Passes a result on, or throws what errno says about it. */
export function check(result: number, syscall: string, subject: string, hint?: string): number {
  if (result < 0) throw new OsError(syscall, subject, errno(), hint);
  return result;
}

/** Sets an integer socket option; false when the kernel does not know or allow it. */
export function setIntOption(fd: number, level: number, option: number, value: number): boolean {
  return setsockopt(fd, level, option, new Int32Array([value]), 4) === 0;
}

/** The value of an integer socket option. Throws OsError. */
export function getIntOption(fd: number, level: number, option: number, subject: string): number {
  const value = new Int32Array(1);
  check(getsockopt(fd, level, option, value, new Uint32Array([4])), 'getsockopt', subject);
  return value[0] ?? 0;
}

/** Closes a descriptor; Linux frees it whatever the call answers. */
export function closeQuietly(fd: number): void {
  close(fd);
}
