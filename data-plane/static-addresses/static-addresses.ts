import { CodedError } from '../../shared/errors.ts';
import type { CloseReason } from '../../shared/events/node-events.ts';
import { canonicalAddress, formatAddress, type IpAddress, parseAddress } from '../../shared/ip/address.ts';
import { formatPrefix, hostPrefix, parsePrefix } from '../../shared/ip/prefix.ts';
import type { Logger } from '../../shared/log/logger.ts';
import type { StaticGrant, StaticLease } from '../../shared/nats/static-address-messages.ts';
import type { AssignedAddress } from '../address/address-book.ts';
import { monotonicMs } from '../address/boot-clock.ts';
import type { Link } from '../control-link/nats-link.ts';
import { hearDemands, type StaticDemands } from './hear-demands.ts';
import { InTurn } from './in-turn.ts';
import { requestStatic } from './request-static.ts';
import { dutyOf, type StaticHold } from './static-hold.ts';

/** Ours: how often leases are looked at, milliseconds. */
const TICK_MS = 1_000;
/** Ours: how long the end of an older tunnel may take. */
const VACATE_TIMEOUT_MS = 3_000;

/** A client's own address cannot be had now. */
export class StaticAddressUnavailableError extends CodedError {
  constructor(address: string, why: string) {
    super('STATIC_ADDRESS_UNAVAILABLE', `static address ${address}: ${why}`);
  }
}

export interface StaticAddressesOptions {
  readonly node: string;
  readonly link: Link;
  readonly log: Logger;
  /** The address is to be routed to the shard. Rejects when that cannot be set up. */
  readonly route: (shard: number, address: string) => Promise<void>;
  readonly unroute: (shard: number, address: string) => void;
  /** Ends a connection; `released` is called once that is on disk. */
  readonly close: (connectionId: string, reason: CloseReason, detail: string) => void;
  readonly now?: () => number;
}

export interface StaticClaim {
  readonly clientId: string;
  readonly connectionId: string;
  readonly shard: number;
  readonly addresses: readonly IpAddress[];
}

/**
 * The static addresses of clients that are here. An address is held on a short lease from when its client opens a tunnel, and a little
 * longer than the tunnel, in case the client comes back; it is given up when the client is at another node. The newest tunnel of
 * a client has it: older ones are closed.
 */
export class StaticAddresses {
  readonly #options: StaticAddressesOptions;
  readonly #now: () => number;
  readonly #holds = new Map<string, StaticHold>();
  /** By address: claims, releases and what else needs more than one step. */
  readonly #turns = new InTurn();
  /** By connection: who waits until its end is on disk. */
  readonly #vacating = new Map<string, PromiseWithResolvers<void>>();
  #timer: NodeJS.Timeout | undefined;
  #renewing = false;
  #stopLink: (() => void) | undefined;
  #stopHearing: () => void = () => {};

  constructor(options: StaticAddressesOptions) {
    this.#options = options;
    this.#now = options.now ?? monotonicMs;
  }

  /** How many are held, with and without a tunnel. */
  get size(): number {
    return this.#holds.size;
  }

  start(): void {
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    const { node, link, log } = this.#options;
    const demands: StaticDemands = {
      release: (text, grant) => this.#inBackground(text, () => this.#release(text, grant)),
      retire: (blocks) => this.#retire(blocks),
    };
    this.#stopLink = link.onUp((connection) => {
      this.#stopHearing();
      this.#stopHearing = hearDemands(connection, node, demands, log);
    });
  }

  /** Leaves everything as it is. */
  close(): void {
    clearInterval(this.#timer);
    this.#stopLink?.();
    this.#stopHearing();
  }

  /** Gives everything back; for after the last tunnel. */
  async stop(): Promise<void> {
    this.close();
    const holds = [...this.#holds.values()];
    for (const hold of holds) this.#drop(hold);
    await this.#giveBack(holds.map(grantOf));
  }

  /**
   * Gets a client's own addresses for a new connection. Rejects with StaticAddressUnavailableError, and then the connection has none of
   * them.
   */
  async claim({ addresses, ...claim }: StaticClaim): Promise<AssignedAddress[]> {
    const claims = addresses.map((address) => {
      const text = formatAddress(address);
      return this.#turns.run(text, () => this.#claimOne(text, claim));
    });
    const outcomes = await Promise.allSettled(claims);
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed === undefined) return Promise.all(claims);
    this.released(claim.connectionId);
    throw failed.reason;
  }

  /** The end of the connection is on disk, or there was nothing of it to put there: others may have its addresses. */
  released(connectionId: string): void {
    for (const hold of this.#holds.values()) {
      if (hold.connectionId === connectionId) this.#set({ ...hold, connectionId: undefined });
    }
    this.#vacating.get(connectionId)?.resolve();
    this.#vacating.delete(connectionId);
  }

  /** The client has these addresses now: of others that it had its tunnels are closed. */
  owned(clientId: string, addresses: readonly IpAddress[]): void {
    const kept = new Set(addresses.map(formatAddress));
    for (const [text, hold] of this.#holds) {
      if (hold.clientId !== clientId || kept.has(text)) continue;
      this.#inBackground(text, async () => {
        const current = this.#holds.get(text);
        if (current?.clientId === clientId)
          await this.#giveUp(current, 'revoked', `${text} is no address of the client any more`);
      });
    }
  }

  async #claimOne(
    text: string,
    { clientId, connectionId, shard }: Omit<StaticClaim, 'addresses'>,
  ): Promise<AssignedAddress> {
    let hold = this.#holds.get(text);
    if (hold?.isRetiring) throw new StaticAddressUnavailableError(text, 'its pool is retiring');
    if (hold !== undefined && hold.clientId !== clientId) {
      await this.#giveUp(hold, 'revoked', `${text} is the address of another client now`);
      hold = undefined;
    }
    if (hold?.connectionId !== undefined) {
      await this.#vacate(hold, 'client', `${text} went to a newer tunnel of the client`);
      hold = this.#holds.get(text);
    }
    if (hold === undefined || hold.endsAt <= this.#now()) hold = await this.#acquire(text, clientId);
    if (hold.shard !== shard) hold = await this.#route(text, hold, shard);
    this.#set({ ...hold, connectionId });
    const { pool, address } = hold;
    return { pool, block: hostPrefix(address), address };
  }

  async #acquire(text: string, clientId: string): Promise<StaticHold> {
    const { node, link, log } = this.#options;
    const sentAt = this.#now();
    const reply = await requestStatic(link, { op: 'acquire', node, clientId, address: text }, log);
    if (!reply.ok) throw new StaticAddressUnavailableError(text, reply.message);
    const [lease] = reply.leases;
    if (lease === undefined) throw new StaticAddressUnavailableError(text, 'the control plane granted nothing');
    const hold = leased(lease, clientId, sentAt, this.#holds.get(text)?.shard);
    this.#set(hold);
    log.info({ address: text, clientId, grant: lease.grant }, 'static address in use');
    return hold;
  }

  async #route(text: string, hold: StaticHold, shard: number): Promise<StaticHold> {
    const { route, unroute } = this.#options;
    const block = blockOf(hold);
    if (hold.shard !== undefined) unroute(hold.shard, block);
    this.#set({ ...hold, shard: undefined });
    await route(shard, block);
    const current = this.#holds.get(text);
    // It takes a moment, in which the lease may have ended.
    if (current?.grant !== hold.grant) {
      unroute(shard, block);
      throw new StaticAddressUnavailableError(text, 'its lease has ended');
    }
    const routed = { ...current, shard };
    this.#set(routed);
    return routed;
  }

  /** Closes the connection that has the address, and waits until its end is on disk. */
  async #vacate({ connectionId, address }: StaticHold, reason: CloseReason, detail: string): Promise<void> {
    if (connectionId === undefined) return;
    const vacating = this.#vacating.get(connectionId) ?? Promise.withResolvers<void>();
    this.#vacating.set(connectionId, vacating);
    this.#options.close(connectionId, reason, detail);
    const tooLate = Promise.withResolvers<never>();
    const why = 'the tunnel that has it does not end';
    const error = new StaticAddressUnavailableError(formatAddress(address), why);
    const timer = setTimeout(() => tooLate.reject(error), VACATE_TIMEOUT_MS);
    try {
      await Promise.race([vacating.promise, tooLate.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends the use of an address, then the hold on it. */
  async #giveUp(hold: StaticHold, reason: CloseReason, detail: string): Promise<void> {
    await this.#vacate(hold, reason, detail);
    this.#drop(hold);
    await this.#giveBack([grantOf(hold)]);
  }

  /** No answer is needed: until the lease ends, the control plane asks again before it gives the address to somebody else. */
  async #giveBack(grants: readonly StaticGrant[]): Promise<void> {
    const { node, link, log } = this.#options;
    if (grants.length > 0) await requestStatic(link, { op: 'return', node, grants: [...grants] }, log);
  }

  /** Pools retire: no tunnel gets their addresses any more, and of those that are closing the tunnels that have some end. */
  #retire({ draining, closing }: Parameters<StaticDemands['retire']>[0]): void {
    for (const [text, hold] of this.#holds) {
      const block = blockOf(hold);
      const isClosing = closing.has(block);
      if (!isClosing && !draining.has(block)) continue;
      this.#set({ ...hold, isRetiring: true });
      if (!isClosing) continue;
      this.#inBackground(text, async () => {
        const current = this.#holds.get(text);
        if (current?.grant === hold.grant) await this.#giveUp(current, 'drained', 'the address pool is retired');
      });
    }
  }

  /** The control plane wants an address back, as it was granted then. */
  async #release(text: string, grant: number): Promise<void> {
    const hold = this.#holds.get(text);
    // What was granted since then is not meant.
    if (hold !== undefined && hold.grant > grant) return;
    if (hold !== undefined) {
      await this.#vacate(hold, 'client', `${text} went to a tunnel of the client at another node`);
      this.#drop(hold);
    }
    await this.#giveBack([{ address: text, grant }]);
  }

  #tick(): void {
    const now = this.#now();
    const due: StaticHold[] = [];
    for (const [text, hold] of this.#holds) {
      switch (dutyOf(hold, now)) {
        case 'end':
          this.#lose(hold, 'error', `the lease of ${text} has ended`);
          break;
        case 'renew':
          due.push(hold);
          break;
        case 'giveBack':
          if (this.#turns.isBusy(text)) break;
          this.#drop(hold);
          this.#inBackground(text, () => this.#giveBack([grantOf(hold)]));
          break;
        case 'none':
          break;
      }
    }
    if (due.length > 0 && !this.#renewing) {
      this.#renewing = true;
      this.#renew(due)
        .catch((error: unknown) => this.#failed(error))
        .finally(() => {
          this.#renewing = false;
        });
    }
  }

  async #renew(holds: readonly StaticHold[]): Promise<void> {
    const { node, link, log } = this.#options;
    const sentAt = this.#now();
    const reply = await requestStatic(link, { op: 'renew', node, grants: holds.map(grantOf) }, log);
    if (!reply.ok) return;
    for (const lease of reply.leases) {
      const hold = this.#holds.get(canonicalAddress(lease.address));
      if (hold?.grant !== lease.grant) continue;
      const { leaseMs, endsAt } = leased(lease, hold.clientId, sentAt, hold.shard);
      this.#set({ ...hold, leaseMs, endsAt });
    }
    for (const address of reply.lost) {
      const text = canonicalAddress(address);
      const hold = this.#holds.get(text);
      const asked = holds.find((one) => formatAddress(one.address) === text);
      if (hold !== undefined && hold.grant === asked?.grant) this.#lose(hold, 'revoked', `${text} was taken back`);
    }
  }

  /** The right to the address is gone: its use ends now, whatever else is under way. */
  #lose(hold: StaticHold, reason: CloseReason, detail: string): void {
    const text = formatAddress(hold.address);
    this.#options.log.warn({ address: text, clientId: hold.clientId }, detail);
    this.#drop(hold);
    if (hold.connectionId !== undefined) this.#options.close(hold.connectionId, reason, detail);
    // Nobody gets it here before that is on disk, and the control plane hears of it.
    this.#inBackground(text, () => this.#giveUp(hold, reason, detail));
  }

  #drop(hold: StaticHold): void {
    const text = formatAddress(hold.address);
    const current = this.#holds.get(text);
    if (current?.grant !== hold.grant) return;
    this.#holds.delete(text);
    if (current.shard !== undefined) this.#options.unroute(current.shard, blockOf(hold));
  }

  #set(hold: StaticHold): void {
    this.#holds.set(formatAddress(hold.address), hold);
  }

  #inBackground(text: string, work: () => Promise<void>): void {
    this.#turns.run(text, work).catch((error: unknown) => this.#failed(error));
  }

  #failed(error: unknown): void {
    this.#options.log.error({ err: error }, 'a static address is not what it should be, its lease will end it');
  }
}

function leased(lease: StaticLease, clientId: string, sentAt: number, shard: number | undefined): StaticHold {
  const { address, pool, grant, leaseSeconds } = lease;
  const leaseMs = leaseSeconds * 1_000;
  return {
    address: parseAddress(address),
    pool: parsePrefix(pool),
    clientId,
    grant,
    leaseMs,
    endsAt: sentAt + leaseMs,
    shard,
    connectionId: undefined,
    isRetiring: false,
  };
}

function grantOf({ address, grant }: StaticHold): StaticGrant {
  return { address: formatAddress(address), grant };
}

function blockOf({ address }: StaticHold): string {
  return formatPrefix(hostPrefix(address));
}
