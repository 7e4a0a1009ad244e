import { Resolver } from 'node:dns/promises';
import { CodedError, errorCode } from '../shared/errors.ts';

/** Milliseconds for one try (ours), which waits longer at each further one; the client waits for its answer meanwhile. */
const TRY_TIMEOUT_MS = 1_000;
const TRIES = 2;
/** Addresses of one name that are used (ours): each is a route of the tunnel. */
const MAX_ADDRESSES = 32;

export class HostnameError extends CodedError {
  constructor(why: string, cause?: unknown) {
    super('HOSTNAME_UNRESOLVED', `the target cannot be resolved: ${why}`, { cause });
  }
}

/** All IPv4 and IPv6 addresses of a name, from DNS alone: what the node's own hosts file says is not for clients. Throws HostnameError. */
export async function resolveHostname(hostname: string, servers?: readonly string[]): Promise<string[]> {
  const resolver = new Resolver({ timeout: TRY_TIMEOUT_MS, tries: TRIES });
  if (servers !== undefined) resolver.setServers(servers);
  const answers = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)]);
  const addresses = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []));
  if (addresses.length > 0) return addresses.slice(0, MAX_ADDRESSES);
  const [first] = answers;
  const cause: unknown = first.status === 'rejected' ? first.reason : undefined;
  throw new HostnameError(errorCode(cause) ?? 'no addresses', cause);
}
