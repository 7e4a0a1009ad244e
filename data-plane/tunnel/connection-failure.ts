import type { FailureReport } from './tunnel-messages.ts';

/** The report of a request that was refused, or of a connection that broke before there was one (status 0). */
export function connectionFailure(remoteAddress: string, status: number, reason: string): FailureReport {
  const errorType = status === 401 || status === 403 ? 'auth' : 'connection';
  return { type: 'failed', remoteAddress, status, reason, errorType };
}
