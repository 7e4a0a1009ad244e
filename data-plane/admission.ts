import { randomUUID } from 'node:crypto';
import { CodedError, errorCode } from '../shared/errors.ts';
import type { NewEvent } from '../shared/events/envelope.ts';
import type { CloseReason, Transport } from '../shared/events/node-events.ts';
import { type AddressFamily, formatAddress, parseAddress } from '../shared/ip/address.ts';
import { formatPrefix, hostPrefix, type IpPrefix } from '../shared/ip/prefix.ts';
import type { Logger } from '../shared/log/logger.ts';
import { AddressesExhaustedError, type AssignedAddress, type BookChange } from './address/address-book.ts';
import type { KnownClient } from './credentials/credential-set.ts';
import type { ConnectIpTarget } from './masque/connect-ip-request.ts';
import type { ProxyError } from './masque/connect-ip-response.ts';
import { OpenConnections } from './open-connections.ts';
import { HostnameError } from './resolve-hostname.ts';
import { StaticAddressUnavailableError } from './static-addresses/static-addresses.ts';
import { EndRecorder } from './telemetry/end-recorder.ts';
import type { Spool } from './telemetry/spool.ts';
import { commonPrefixes } from './tunnel/scope.ts';
import type { RequestReport, ServerThreadCommand, ServerThreadReport, TunnelGrant } from './tunnel/tunnel-messages.ts';
import {
  type AddressWish,
  type ChosenAddresses,
  TunnelAddresses,
  type TunnelAddressesOptions,
} from './tunnel-addresses.ts';

/** A request, and the shard that it came to, or is to come to. */
export type TunnelRequest = RequestReport & { readonly shard: number };
export type TunnelClosed = Extract<ServerThreadReport, { type: 'closed' }>;
type Answer = Extract<ServerThreadCommand, { type: 'accept' | 'reject' }>;

/** What becomes of a tunnel whose end is decided before it is open. */
const UNOPENED = 'ended before it was open';
/** Characters of the detail of an end (the event's limit). */
const MAX_DETAIL_LENGTH = 1_000;
/** Of a request whose target cannot be reached (RFC 9209 2.3). */
const BAD_GATEWAY = 502;

export interface AdmissionOptions extends TunnelAddressesOptions {
  /** Whether tokens can be judged: a node that never saw the credentials knows nobody. */
  readonly canAuthenticate: () => boolean;
  readonly authenticate: (token: string) => KnownClient | undefined;
  readonly spool: Pick<Spool, 'append'>;
  readonly tunnelMtu: number;
  /** Each tunnel takes addresses of the pool, so one client may not have any number of them. */
  readonly maxTunnelsPerClient: number;
  /** What clients may reach. */
  readonly advertiseRoutes: readonly IpPrefix[];
  /** The addresses of a name. Rejects with HostnameError. */
  readonly resolve: (hostname: string) => Promise<readonly string[]>;
  readonly log: Logger;
}

/** Why a request is refused: its status, and whose it was where that is known. */
class Refusal extends CodedError {
  readonly status: number;
  readonly clientId: string | null;
  readonly proxyError: ProxyError | undefined;

  constructor(status: number, reason: string, clientId: string | null, cause?: unknown, proxyError?: ProxyError) {
    super('REFUSED', reason, { cause });
    this.status = status;
    this.clientId = clientId;
    this.proxyError = proxyError;
  }
}

/**
 * Decides who gets a tunnel, and keeps the record of it: the answer leaves only after the events of what was decided are on
 * disk, so nobody holds an address that the log does not know.
 */
export class Admission {
  readonly #options: AdmissionOptions;
  readonly #open = new OpenConnections();
  /** Connections that are about to open, and why they must not after all. */
  readonly #pending = new Map<string, CloseReason | undefined>();
  /** Requests that wait for a name's or more addresses, by client: each may become a tunnel. */
  readonly #waiting = new Map<string, number>();
  readonly #ends: EndRecorder;
  readonly #addresses: TunnelAddresses;
  #draining = false;

  constructor(options: AdmissionOptions) {
    this.#options = options;
    this.#ends = new EndRecorder(options);
    this.#addresses = new TunnelAddresses(options);
  }

  /** Tunnels that are open or about to be. */
  get size(): number {
    return this.#open.size;
  }

  /** Tunnels over one transport that are open or about to be. */
  count(transport: Transport): number {
    return this.#open.count((open) => open.transport === transport);
  }

  connectionsOf(clientId: string): string[] {
    return [...this.#open.ofClient(clientId)];
  }

  /** Tunnels of one shard that are open or about to be. */
  sizeOf(shard: number): number {
    return this.#open.count((open) => open.shard === shard);
  }

  shardOf(connectionId: string): number | undefined {
    return this.#open.get(connectionId)?.shard;
  }

  /** Ends a connection that is not open yet: it will be refused. False when its answer has left already. */
  cancel(connectionId: string, reason: CloseReason): boolean {
    if (!this.#pending.has(connectionId)) return false;
    this.#pending.set(connectionId, reason);
    return true;
  }

  /** The node stops: nobody is let in from now on, and what is not open yet never opens. */
  drain(): void {
    this.#draining = true;
    for (const connectionId of this.#pending.keys()) this.#pending.set(connectionId, 'drained');
  }

  /** Offers once more what the disk refused; for the end of the process. */
  settle(): Promise<void> {
    return this.#ends.settle();
  }

  /** The answer to a request, and the failure that it is, if it is one. */
  async decide(request: TunnelRequest): Promise<{ answer: Answer; failure?: NewEvent<'connection.failed'>['data'] }> {
    try {
      return { answer: await this.#admit(request) };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const { status, clientId, message, proxyError } = error;
      const { remoteAddress, requestId } = request;
      const errorType = status === 401 || status === 403 ? 'auth' : 'connection';
      return {
        answer: { type: 'reject', requestId, status, ...(proxyError && { proxyError }) },
        failure: { remoteAddress, clientId, status, reason: message, errorType, count: 1 },
      };
    }
  }

  async #admit(request: TunnelRequest): Promise<Answer> {
    const { shard, requestId, token, transport, target, protocol } = request;
    // To wait takes time, in which the token may be revoked: it is judged before, for a stranger is not waited for, and after.
    const targets =
      target.kind === 'hostname'
        ? await this.#resolve(this.#permit(token).clientId, target.hostname)
        : prefixesOf(target);
    const client = this.#permit(token);
    const { clientId } = client;
    const families = this.#families(targets, clientId);
    const connectionId = randomUUID();
    const wished = request.wishedAddresses?.map(parseAddress) ?? [];
    this.#pending.set(connectionId, undefined);
    let chosen: ChosenAddresses;
    try {
      chosen = await this.#choose({ client, shard, connectionId, families, wished });
      this.#permit(token);
      const cancelled = this.#pending.get(connectionId);
      if (cancelled !== undefined) throw unopenedRefusal(cancelled, clientId);
      this.#open.add(connectionId, { clientId, shard, transport });
      await this.#recordOpening(request, { connectionId, clientId }, chosen);
    } catch (error) {
      this.#pending.delete(connectionId);
      this.#open.delete(connectionId);
      this.#addresses.release(connectionId);
      this.#addresses.released(connectionId);
      throw error;
    }
    const cancelled = this.#pending.get(connectionId);
    this.#pending.delete(connectionId);
    if (cancelled !== undefined) {
      await this.unopened({ connectionId, clientId }, cancelled, UNOPENED);
      throw unopenedRefusal(cancelled, clientId);
    }
    const addresses = chosen.addresses.map(({ address, nodeAddress }) => ({
      address: formatAddress(address),
      nodeAddress: formatAddress(nodeAddress),
    }));
    const scope = { targets: targets?.map(formatPrefix) ?? null, protocol };
    return { type: 'accept', requestId, connectionId, clientId, addresses, scope };
  }

  /** Throws Refusal. */
  async #choose(wish: AddressWish): Promise<ChosenAddresses> {
    const { clientId } = wish.client;
    try {
      return await this.#wait(clientId, this.#addresses.choose(wish));
    } catch (error) {
      const isRefusal = error instanceof AddressesExhaustedError || error instanceof StaticAddressUnavailableError;
      throw isRefusal ? new Refusal(503, error.message, clientId, error) : error;
    }
  }

  /** Resolves when the events of a new tunnel are on disk. Throws Refusal where they are not. */
  async #recordOpening(
    { transport, remoteAddress, remotePort }: TunnelRequest,
    { connectionId, clientId }: Pick<TunnelGrant, 'connectionId' | 'clientId'>,
    { addresses, save }: BookChange,
  ): Promise<void> {
    const { spool, tunnelMtu } = this.#options;
    const at = new Date().toISOString();
    const established: NewEvent = {
      type: 'connection.established',
      at,
      data: { connectionId, clientId, remoteAddress, remotePort, transport, tunnelMtu },
    };
    const assigned = addresses.map(
      (address): NewEvent => ({ type: 'address.assigned', at, data: { connectionId, clientId, ...texts(address) } }),
    );
    try {
      await spool.append([established, ...assigned], save);
    } catch (error) {
      const full = errorCode(error) === 'SPOOL_FULL';
      throw new Refusal(503, full ? 'the spool is full' : 'the record cannot be written', clientId, error);
    }
  }

  /** Whose token it is, if that client may have a tunnel now. Throws Refusal. */
  #permit(token: string | null): KnownClient {
    const { canAuthenticate, authenticate, maxTunnelsPerClient } = this.#options;
    if (this.#draining) throw new Refusal(503, 'the node is draining', null);
    if (token === null) throw new Refusal(401, 'no bearer token', null);
    if (!canAuthenticate()) throw new Refusal(503, 'the credentials are not known yet', null);
    const client = authenticate(token);
    if (client === undefined) throw new Refusal(401, 'unknown or revoked token', null);
    const { clientId } = client;
    if (this.#open.ofClient(clientId).size + (this.#waiting.get(clientId) ?? 0) >= maxTunnelsPerClient) {
      throw new Refusal(429, `the client has ${maxTunnelsPerClient} tunnels already`, clientId);
    }
    // While ends wait for the disk, the log takes their addresses for held.
    if (this.#ends.waiting > 0) throw new Refusal(503, 'the record cannot be written', clientId);
    return client;
  }

  async #resolve(clientId: string, hostname: string): Promise<IpPrefix[]> {
    try {
      const addresses = await this.#wait(clientId, this.#options.resolve(hostname));
      return addresses.map((address) => hostPrefix(parseAddress(address)));
    } catch (error) {
      if (!(error instanceof HostnameError)) throw error;
      throw new Refusal(BAD_GATEWAY, error.message, clientId, error, 'dns_error');
    }
  }

  /** Counts the client's request as a tunnel while it waits. */
  async #wait<T>(clientId: string, what: Promise<T>): Promise<T> {
    this.#waiting.set(clientId, (this.#waiting.get(clientId) ?? 0) + 1);
    try {
      return await what;
    } finally {
      const left = (this.#waiting.get(clientId) ?? 1) - 1;
      if (left > 0) this.#waiting.set(clientId, left);
      else this.#waiting.delete(clientId);
    }
  }

  /** In which the target can be reached: an address of another family would be of no use. Throws Refusal where there is none. */
  #families(targets: readonly IpPrefix[] | null, clientId: string): AddressFamily[] {
    if (targets === null) return [4, 6];
    const reachable = commonPrefixes(targets, this.#options.advertiseRoutes);
    const families = ([4, 6] as const).filter((family) => reachable.some(({ address }) => address.family === family));
    if (families.length > 0) return families;
    const reason = 'the target is outside of the routes';
    throw new Refusal(BAD_GATEWAY, reason, clientId, undefined, 'destination_ip_prohibited');
  }

  /** Records the end of a tunnel that was let in, and never opened. */
  unopened(
    { connectionId, clientId }: Pick<TunnelGrant, 'connectionId' | 'clientId'>,
    reason: CloseReason,
    detail: string,
  ): Promise<void> {
    const totals = { bytesIn: 0, bytesOut: 0, packetsIn: 0, packetsOut: 0 };
    return this.closed({ type: 'closed', connectionId, clientId, reason, detail, durationMs: 0, totals });
  }

  /** Records the end of a tunnel and gives its addresses back. */
  async closed({ connectionId, clientId, reason, detail, durationMs, totals }: TunnelClosed): Promise<void> {
    if (!this.#open.delete(connectionId)) return;
    const change = this.#addresses.release(connectionId);
    const at = new Date().toISOString();
    const released = change.addresses.map(
      (address): NewEvent => ({
        type: 'address.released',
        at,
        data: { connectionId, clientId, ...texts(address), reason },
      }),
    );
    const closed: NewEvent = {
      type: 'connection.closed',
      at,
      data: { connectionId, clientId, reason, detail: storable(detail), durationMs, totals },
    };
    await this.#ends.record([...released, closed], change.save, () => this.#addresses.released(connectionId));
  }
}

function unopenedRefusal(reason: CloseReason, clientId: string): Refusal {
  return new Refusal(reason === 'revoked' ? 401 : 503, UNOPENED, clientId);
}

/** Peers choose a part of it: Postgres takes neither NUL nor half of a surrogate pair, and one refused event would stay unapplied. */
function storable(text: string): string {
  return text
    .slice(0, MAX_DETAIL_LENGTH)
    .toWellFormed()
    .replace(/\p{Cc}/gu, '\ufffd');
}

function texts({ address, block, pool }: AssignedAddress): { address: string; block: string; pool: string } {
  return { address: formatAddress(address), block: formatPrefix(block), pool: formatPrefix(pool) };
}

/** Where a target that needs no resolving lets packets go; null: anywhere. */
function prefixesOf(target: Exclude<ConnectIpTarget, { kind: 'hostname' }>): readonly IpPrefix[] | null {
  return target.kind === 'any' ? null : [target.prefix];
}
