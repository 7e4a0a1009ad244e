import { CONNECT_TIMEOUT_MS, SILENCE_TIMEOUT_MS } from './client-tunnel.ts';

/** Why there is no tunnel, in the words of all transports. */

export const SILENCE_PROBLEM = `no word from the node for ${SILENCE_TIMEOUT_MS / 1_000} s`;

/** `missing` is what did not come, e.g. `answer to the request`. */
export function timeoutProblem(missing: string): string {
  return `no ${missing} within ${CONNECT_TIMEOUT_MS / 1_000} s`;
}

/** `server` is `ip:port`; `cause` is what is wrong with the certificate, where that is known. */
export function certificateProblem(server: string, cause?: string): string {
  const why = cause === undefined ? '' : ` (${cause})`;
  return `the certificate of ${server} was refused${why}: it must come from --ca and have the DNS name of --url`;
}

export function refusalProblem(status: number): string {
  return `the node answered ${status}`;
}

/** `missing` is what the server does not offer, and a node does. */
export function noNodeProblem(missing: string): string {
  return `the server offers no ${missing}: it is no node`;
}
