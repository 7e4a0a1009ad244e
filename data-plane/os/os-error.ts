import { getSystemErrorMessage, getSystemErrorName } from 'node:util';
import { CodedError } from '../../shared/errors.ts';

/** A system call that failed. `code` is the errno's name, e.g. EADDRINUSE. */
export class OsError extends CodedError {
  readonly errno: number;
  readonly syscall: string;
  /** What the call was about, e.g. an address or a path. */
  readonly subject: string;

  constructor(syscall: string, subject: string, errno: number, hint?: string) {
    const what = subject === '' ? syscall : `${syscall} ${subject}`;
    const why = getSystemErrorMessage(-errno) ?? `errno ${errno}`;
    super(errnoName(errno), hint === undefined ? `${what}: ${why}` : `${what}: ${why} (${hint})`);
    this.errno = errno;
    this.syscall = syscall;
    this.subject = subject;
  }
}

/** The name of an errno, e.g. EAGAIN, also for those that Node has no name for. */
export function errnoName(errno: number): string {
  const name = getSystemErrorName(-errno);
  return /^E[A-Z0-9]+$/.test(name) ? name : `ERRNO_${errno}`;
}
