import type { AddressFamily } from '../../shared/ip/address.ts';
import { DEFAULT_POOL } from '../../shared/ip/block.ts';
import { canonicalPrefix, type IpPrefix } from '../../shared/ip/prefix.ts';
import type { BlockReply, BlockRequest } from '../../shared/nats/messages.ts';
import type { PoolAggregate } from '../pools/pool-aggregate.ts';
import { type BlockAggregate, type BlockEvent, decide } from './block-aggregate.ts';
import { chooseBlock } from './choose-block.ts';

/** One event of one block, valid only on top of the version that it was decided on. */
export interface BlockChange {
  readonly before: BlockAggregate;
  readonly event: BlockEvent;
}

export interface RequestDecision {
  readonly changes: readonly BlockChange[];
  readonly reply: BlockReply;
}

export interface RequestContext {
  /** The pool that the request names, for `acquire`; undefined where there never was one. */
  readonly pool?: PoolAggregate | undefined;
  readonly leaseMs: number;
  /** Postgres' clock, milliseconds since 1970. */
  readonly now: number;
  /** The block that an earlier request of the same id was given, if it had one. */
  readonly earlierGrant?: string | undefined;
  /** Static addresses of the family: no block with one in it is granted. */
  readonly reserved?: readonly IpPrefix[];
}

/**
 * What a node's request leads to. `known` holds at least the blocks named in it, for `acquire` every block of the family in
 * the pool that was ever granted.
 */
export function decideRequest(
  known: ReadonlyMap<string, BlockAggregate>,
  request: BlockRequest,
  context: RequestContext,
): RequestDecision {
  switch (request.op) {
    case 'acquire':
      return acquire(known, request, context);
    case 'renew':
      return renew(known, request, context);
    case 'return':
      return giveBack(known, request, context);
    default:
      return request satisfies never;
  }
}

type Acquire = Extract<BlockRequest, { op: 'acquire' }>;
type Renew = Extract<BlockRequest, { op: 'renew' }>;
type Return = Extract<BlockRequest, { op: 'return' }>;

function acquire(
  known: ReadonlyMap<string, BlockAggregate>,
  request: Acquire,
  context: RequestContext,
): RequestDecision {
  const { pool, leaseMs, now, earlierGrant, reserved = [] } = context;
  const { family, node, remembers = false } = request;
  const earlier = earlierGrant === undefined ? undefined : known.get(earlierGrant);
  if (earlier?.state.status === 'granted' && earlier.state.node === request.node) {
    // The lease has run since the first answer, and the node counts from its latest request: so it is renewed.
    return renew(known, { op: 'renew', node: request.node, blocks: [earlier.block] }, context);
  }
  const problem = problemOf(pool, family);
  if (pool === undefined || problem !== undefined) {
    return refuse('no_pool', `pool "${pool?.name ?? request.pool ?? DEFAULT_POOL}" ${problem ?? 'does not exist'}`);
  }
  const chosen = chooseBlock(pool.layout, { family, node, remembers }, known, reserved, now);
  if (!chosen) return refuse('exhausted', `pool "${pool.name}" has no free IPv${family} block`);
  const decision = decide(chosen, { type: 'grant', node, now, leaseMs });
  if (!decision.ok) return refuse('unavailable', `${chosen.block}: ${decision.refusal}`);
  return {
    changes: [{ before: chosen, event: decision.event }],
    reply: { ok: true, leases: [lease(chosen, leaseMs)], lost: [] },
  };
}

/** Why a pool has no blocks for anybody. */
function problemOf(pool: PoolAggregate | undefined, family: AddressFamily): string | undefined {
  const state = pool?.state ?? { status: 'unknown' as const };
  switch (state.status) {
    case 'unknown':
      return 'does not exist';
    case 'retiring':
      return 'is retiring';
    case 'retired':
      return 'is retired';
    case 'active': {
      const hasFamily = pool?.layout.prefixes.some(({ address }) => address.family === family);
      return hasFamily ? undefined : `has no IPv${family} addresses`;
    }
    default:
      return state satisfies never;
  }
}

function renew(known: ReadonlyMap<string, BlockAggregate>, request: Renew, context: RequestContext): RequestDecision {
  const { leaseMs, now } = context;
  const blocks = canonicalBlocks(request.blocks);
  if (!blocks) return refuse('invalid', 'not a list of prefixes');
  const changes: BlockChange[] = [];
  const held: BlockAggregate[] = [];
  const lost: string[] = [];
  for (const block of blocks) {
    const aggregate = known.get(block);
    const decision = aggregate && decide(aggregate, { type: 'renew', node: request.node, now, leaseMs });
    if (decision?.ok) {
      changes.push({ before: aggregate as BlockAggregate, event: decision.event });
      held.push(aggregate as BlockAggregate);
    } else {
      lost.push(block);
    }
  }
  return { changes, reply: { ok: true, leases: held.map((aggregate) => lease(aggregate, leaseMs)), lost } };
}

function giveBack(
  known: ReadonlyMap<string, BlockAggregate>,
  request: Return,
  context: RequestContext,
): RequestDecision {
  const blocks = canonicalBlocks(request.blocks);
  if (!blocks) return refuse('invalid', 'not a list of prefixes');
  const changes: BlockChange[] = [];
  const lost: string[] = [];
  for (const block of blocks) {
    const aggregate = known.get(block);
    const decision = aggregate && decide(aggregate, { type: 'return', node: request.node, now: context.now });
    if (decision?.ok) changes.push({ before: aggregate as BlockAggregate, event: decision.event });
    else lost.push(block);
  }
  return { changes, reply: { ok: true, leases: [], lost } };
}

/** The named blocks in canonical text, each once; undefined when one is no prefix. */
export function canonicalBlocks(blocks: readonly string[]): string[] | undefined {
  try {
    return [...new Set(blocks.map((block) => canonicalPrefix(block)))];
  } catch {
    return undefined;
  }
}

function lease(aggregate: BlockAggregate, leaseMs: number) {
  return { block: aggregate.block, pool: aggregate.pool, leaseSeconds: Math.floor(leaseMs / 1000) };
}

function refuse(code: Extract<BlockReply, { ok: false }>['code'], message: string): RequestDecision {
  return { changes: [], reply: { ok: false, code, message } };
}
