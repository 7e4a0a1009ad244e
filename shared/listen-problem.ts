import { describeError, errorCode } from './errors.ts';

/** Why nothing can listen on an address, in words that fit behind it. */
export function listenProblem(error: unknown): string {
  const code = errorCode(error);
  if (code === 'EADDRINUSE') return 'the port is in use';
  if (code === 'EADDRNOTAVAIL') return 'this machine has no such address';
  if (code === 'EACCES') return 'not allowed';
  if (code === 'ENOTFOUND') return 'there is no such host';
  return describeError(error);
}
