import { setTimeout as delay } from 'node:timers/promises';
import { canonicalAddress } from '../../shared/ip/address.ts';
import type { StaticGrant, StaticReply, StaticRequest } from '../../shared/nats/static-address-messages.ts';
import { toDecidedEvent } from '../blocks/block-service.ts';
import { saveChanges } from '../blocks/block-store.ts';
import type { BlockChange } from '../blocks/decide-request.ts';
import { type Decided, type DecisionContext, decideInTransaction } from '../leader/decide-in-transaction.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import type { Term } from '../storage/term.ts';
import { type AcquireDecision, decideAcquire, decideRenew, decideReturn } from './decide-static-request.ts';
import { extendLeases, loadStaticAddress, loadStaticAddresses, saveGrantedTo } from './static-address-store.ts';

/** How long a node that holds an address has to give it up before who asks for it is told to come again (ours). */
export const RELEASE_TIMEOUT_MS = 2_000;

type Acquire = Extract<StaticRequest, { op: 'acquire' }>;
type Holdings = Exclude<StaticRequest, Acquire>;

export interface StaticAddressServiceOptions extends DecisionContext {
  readonly leaseSeconds: number;
  /** Asks a node to give an address up, without waiting for what it does. */
  readonly askForRelease: (node: string, grant: StaticGrant) => void;
}

/** Grants static addresses to the nodes where their clients are, and gets them back from where they were. */
export class StaticAddressService {
  private readonly options: StaticAddressServiceOptions;
  /** Who waits for the return of an address. */
  private readonly waiting = new Map<string, Set<() => void>>();

  constructor(options: StaticAddressServiceOptions) {
    this.options = options;
  }

  /**
   * Answers a node's request after its events are committed. Throws NotLeaderError, Postgres' errors, and InvalidAddressError
   * where there is none.
   */
  handle(term: Term, request: StaticRequest): Promise<StaticReply> {
    if (request.op === 'acquire') return this.acquire(term, { ...request, address: canonicalAddress(request.address) });
    const grants = request.grants.map(({ address, grant }) => ({ address: canonicalAddress(address), grant }));
    return this.hold(term, { ...request, grants });
  }

  private async acquire(term: Term, request: Acquire): Promise<StaticReply> {
    const { address } = request;
    let decision = await this.decide(term, request);
    if (decision.type === 'held') {
      const returned = this.untilReturned(address, term.signal);
      this.options.askForRelease(decision.node, { address, grant: decision.grant });
      await returned;
      decision = await this.decide(term, request);
    }
    switch (decision.type) {
      case 'granted':
        return { ok: true, leases: [decision.lease], lost: [] };
      case 'refused':
        return decision.reply;
      case 'held': {
        const until = new Date(decision.until).toISOString();
        const message = `${decision.node} has ${address} and did not give it up: it may keep it until ${until}`;
        return { ok: false, code: 'held', message };
      }
      default:
        return decision satisfies never;
    }
  }

  private decide(term: Term, request: Acquire): Promise<AcquireDecision> {
    const { address, clientId } = request;
    return decideInTransaction(this.options, term, async (trx, now): Promise<Decided<AcquireDecision>> => {
      const decision = decideAcquire(await loadStaticAddress(trx, address), request, { leaseMs: this.leaseMs, now });
      if (decision.type !== 'granted') return { events: [], result: decision };
      // One at a time: each builds on the version before it.
      for (const change of decision.changes) await saveChanges(trx, [change]);
      await saveGrantedTo(trx, address, clientId);
      return { events: decision.changes.map(toDecidedEvent), result: decision };
    });
  }

  private async hold(term: Term, request: Holdings): Promise<StaticReply> {
    const { reply, returned } = await decideInTransaction(this.options, term, (trx, now) =>
      request.op === 'renew' ? this.renew(trx, request, now) : this.giveBack(trx, request, now),
    );
    for (const address of returned) for (const tell of this.waiting.get(address) ?? []) tell();
    return reply;
  }

  private async renew(trx: DatabaseTransaction, { node, grants }: Holdings, now: number): Promise<Decided<Held>> {
    const known = await loadStaticAddresses(trx, addressesOf(grants));
    const { leases, lost } = decideRenew(known, node, grants, { leaseMs: this.leaseMs, now });
    await extendLeases(trx, addressesOf(leases), now + this.leaseMs);
    return { events: [], result: { reply: { ok: true, leases: [...leases], lost: [...lost] }, returned: [] } };
  }

  private async giveBack(trx: DatabaseTransaction, { node, grants }: Holdings, now: number): Promise<Decided<Held>> {
    const known = await loadStaticAddresses(trx, addressesOf(grants));
    const { changes, lost } = decideReturn(known, node, grants, now);
    await saveChanges(trx, changes);
    const returned = changes.map(({ before }: BlockChange) => before.block.slice(0, before.block.indexOf('/')));
    return {
      events: changes.map(toDecidedEvent),
      result: { reply: { ok: true, leases: [], lost: [...lost] }, returned },
    };
  }

  /** Resolves when the address is returned, the time for it is over, or the term is. */
  private async untilReturned(address: string, signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const waiting = this.waiting.get(address) ?? new Set();
    this.waiting.set(address, waiting.add(resolve));
    const timeOver = new AbortController();
    const either = AbortSignal.any([signal, timeOver.signal]);
    await Promise.race([promise, delay(RELEASE_TIMEOUT_MS, undefined, { signal: either }).catch(() => undefined)]);
    timeOver.abort();
    waiting.delete(resolve);
    if (waiting.size === 0) this.waiting.delete(address);
  }

  private get leaseMs(): number {
    return this.options.leaseSeconds * 1000;
  }
}

interface Held {
  readonly reply: StaticReply;
  readonly returned: readonly string[];
}

const addressesOf = (grants: readonly { readonly address: string }[]): string[] => grants.map(({ address }) => address);
