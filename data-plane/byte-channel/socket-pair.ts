import { check, setIntOption, socketpair } from '../os/libc.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;

/**
 * Bytes that the kernel keeps in each direction of a pair (ours), its own overhead of about a third included: with 300 Mbit/s some 10 ms.
 * In a stream of AF_UNIX only the sender's buffer counts. The kernel doubles what it is given.
 */
export const SOCKET_PAIR_BYTES = 512 * 1024;

/**
 * Two ends of a byte stream in both directions, non-blocking, for two threads of this process. Each end belongs to one thread, which alone
 * closes it, once: the kernel gives the number of a closed descriptor to the next that is opened. Throws OsError, e.g. EMFILE.
 */
export function socketPair(): readonly [number, number] {
  const fds = new Int32Array(2);
  check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 'socketpair', '');
  const [one = -1, other = -1] = fds;
  for (const fd of fds) setIntOption(fd, SOL_SOCKET, SO_SNDBUF, SOCKET_PAIR_BYTES / 2);
  return [one, other];
}
