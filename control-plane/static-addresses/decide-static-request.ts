import { ADDRESS_REST_MS } from '../../shared/ip/block.ts';
import type {
  StaticGrant,
  StaticLease,
  StaticReply,
  StaticRequest,
} from '../../shared/nats/static-address-messages.ts';
import { type BlockAggregate, type BlockCommand, decide, evolve, reclaimGraceMs } from '../blocks/block-aggregate.ts';
import type { BlockChange } from '../blocks/decide-request.ts';

/** Of a pool that retires nobody gets an address any more; when it is `closing`, or there is no such pool, who has one loses it. */
type PoolState = 'active' | 'draining' | 'closing';

/** A static address, as it is when a node asks for it. */
export interface StaticAddress {
  readonly address: string;
  /** Undefined: it is nobody's. `pool` is the network. */
  readonly owner: { readonly clientId: string; readonly pool: string; readonly poolState: PoolState } | undefined;
  /** The block of this address alone. Its version numbers its grants. */
  readonly block: BlockAggregate;
  /** The client for which it was granted last. */
  readonly grantedTo: string | null;
  /** Other blocks that it lies in, which were granted at some time. */
  readonly around: readonly BlockAggregate[];
}

type Acquire = Extract<StaticRequest, { op: 'acquire' }>;
type Refusal = Extract<StaticReply, { ok: false }>;

export type AcquireDecision =
  /** The changes are to be made one after the other. */
  | { readonly type: 'granted'; readonly changes: readonly BlockChange[]; readonly lease: StaticLease }
  /** A node has it, and can be asked to give it up; otherwise it has to until its lease is over. */
  | { readonly type: 'held'; readonly node: string; readonly grant: number; readonly until: number }
  | { readonly type: 'refused'; readonly reply: Refusal };

export interface StaticContext {
  readonly leaseMs: number;
  /** Postgres' clock, milliseconds since 1970. */
  readonly now: number;
}

/**
 * Whether a node gets a static address for its client. Another node that has it is fenced: it has given the address back, or its
 * lease, and the grace for its clock, are over. What another client had rests first. Pure.
 */
export function decideAcquire(known: StaticAddress, request: Acquire, context: StaticContext): AcquireDecision {
  const { address, owner, block, grantedTo, around } = known;
  const { node, clientId } = request;
  if (owner?.clientId !== clientId) return refuse('not_assigned', `${address} is no address of ${clientId}`);
  if (owner.poolState !== 'active') return refuse('unavailable', `the pool of ${address} is retiring or retired`);
  const larger = around.find(({ state }) => state.status === 'granted');
  if (larger?.state.status === 'granted') {
    return refuse('unavailable', `${address} lies in ${larger.block}, which ${larger.state.node} holds`);
  }
  const changes: BlockChange[] = [];
  let current = block;
  const command = (type: BlockCommand['type']): void => {
    const { leaseMs } = context;
    // Postgres' clock can be set back: no grant begins before the one before it has ended.
    const now = current.state.status === 'free' ? Math.max(context.now, current.state.freedAt ?? 0) : context.now;
    const decision = decide(current, { type, node, now, leaseMs });
    if (!decision.ok) throw new Error(`${current.block}: ${decision.refusal}`);
    changes.push({ before: current, event: decision.event });
    current = evolve(current, decision.event);
  };
  if (current.state.status === 'granted') {
    const { node: holder, leaseEnd } = current.state;
    if (holder === node && grantedTo === clientId) {
      command('renew');
      return { type: 'granted', changes, lease: leaseOf(known, current, context) };
    }
    const until = leaseEnd + reclaimGraceMs(current.block);
    if (context.now < until) return { type: 'held', node: holder, grant: current.version, until };
    command('reclaim');
  }
  const restsUntil = restEnd(around, grantedTo === clientId ? undefined : block);
  if (context.now < restsUntil) {
    return refuse('resting', `another client had ${address} until now, it rests until ${isoTime(restsUntil)}`);
  }
  command('grant');
  return { type: 'granted', changes, lease: leaseOf(known, current, context) };
}

export interface RenewDecision {
  /** Held on: their leases end later now. That needs no event: the log has when a grant began and when it ended. */
  readonly leases: readonly StaticLease[];
  /** Those whose grant is over, and those that are the client's no more. */
  readonly lost: readonly string[];
}

/** Which grants of a node go on. Pure. */
export function decideRenew(
  known: ReadonlyMap<string, StaticAddress>,
  node: string,
  grants: readonly StaticGrant[],
  context: StaticContext,
): RenewDecision {
  const leases: StaticLease[] = [];
  const lost: string[] = [];
  for (const { address, grant } of grants) {
    const found = known.get(address);
    const goesOn =
      found !== undefined &&
      isGrantOf(found.block, node, grant) &&
      found.owner !== undefined &&
      found.owner.clientId === found.grantedTo &&
      found.owner.poolState !== 'closing';
    if (goesOn) leases.push(leaseOf(found, found.block, context));
    else lost.push(address);
  }
  return { leases, lost };
}

export interface ReturnDecision {
  readonly changes: readonly BlockChange[];
  /** Those whose grant was over already. */
  readonly lost: readonly string[];
}

/** Which grants end by a node's return of them. Pure. */
export function decideReturn(
  known: ReadonlyMap<string, StaticAddress>,
  node: string,
  grants: readonly StaticGrant[],
  now: number,
): ReturnDecision {
  const changes: BlockChange[] = [];
  const lost: string[] = [];
  for (const { address, grant } of grants) {
    const block = known.get(address)?.block;
    const decision = block && isGrantOf(block, node, grant) ? decide(block, { type: 'return', node, now }) : undefined;
    if (block !== undefined && decision?.ok) changes.push({ before: block, event: decision.event });
    else lost.push(address);
  }
  return { changes, lost };
}

function isGrantOf({ state, version }: BlockAggregate, node: string, grant: number): boolean {
  return state.status === 'granted' && state.node === node && version === grant;
}

/** When everything that somebody else may have had lately has rested. */
function restEnd(around: readonly BlockAggregate[], other: BlockAggregate | undefined): number {
  const freed = [...around, ...(other === undefined ? [] : [other])].map(({ state }) => {
    if (state.status === 'granted') return state.leaseEnd;
    return state.freedAt ?? Number.NEGATIVE_INFINITY;
  });
  return Math.max(...freed, Number.NEGATIVE_INFINITY) + ADDRESS_REST_MS;
}

function leaseOf({ address }: StaticAddress, { pool, version }: BlockAggregate, context: StaticContext): StaticLease {
  return { address, pool, grant: version, leaseSeconds: Math.floor(context.leaseMs / 1000) };
}

function refuse(code: Refusal['code'], message: string): AcquireDecision {
  return { type: 'refused', reply: { ok: false, code, message } };
}

function isoTime(ms: number): string {
  return new Date(ms).toISOString();
}
