import { DEFAULT_POOL } from '../../shared/ip/block.ts';
import type { BlockReply, BlockRequest } from '../../shared/nats/messages.ts';
import { type DecidedEvent, type DecisionContext, decideInTransaction } from '../leader/decide-in-transaction.ts';
import type { PoolAggregate } from '../pools/pool-aggregate.ts';
import { loadPool } from '../pools/pool-store.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import type { Term } from '../storage/term.ts';
import { type BlockAggregate, decide } from './block-aggregate.ts';
import {
  findGrant,
  forgetGrants,
  loadBlocks,
  loadBlocksIn,
  loadReclaimable,
  loadReserved,
  rememberGrant,
  saveChanges,
} from './block-store.ts';
import { type BlockChange, canonicalBlocks, decideRequest, type RequestDecision } from './decide-request.ts';

/** Blocks taken back in one transaction (ours). */
const RECLAIM_BATCH = 500;
/** How long a repeated request gets its first answer (ours); a node repeats within seconds. */
const REMEMBER_REQUESTS_HOURS = 24;

export interface BlockServiceOptions extends DecisionContext {
  readonly leaseSeconds: number;
}

/** Grants, renews, takes and reclaims blocks. */
export class BlockService {
  private readonly options: BlockServiceOptions;

  constructor(options: BlockServiceOptions) {
    this.options = options;
  }

  /** Answers a node's request after its events are committed. Throws NotLeaderError and Postgres' errors. */
  async handle(term: Pick<Term, 'ownerEpoch'>, request: BlockRequest): Promise<BlockReply> {
    const [reply] = await this.handleAll(term, [request]);
    return reply as BlockReply;
  }

  /** The same for several requests, one after the other in one transaction: all are answered, or none is. */
  handleAll(term: Pick<Term, 'ownerEpoch'>, requests: readonly BlockRequest[]): Promise<BlockReply[]> {
    return decideInTransaction(this.options, term, async (trx, now) => {
      const events: DecidedEvent[] = [];
      const replies: BlockReply[] = [];
      for (const request of requests) {
        const { changes, reply } = await this.decide(trx, now, request);
        events.push(...changes.map(toDecidedEvent));
        replies.push(reply);
      }
      return { events, result: replies };
    });
  }

  /** Takes back the blocks whose lease ended RECLAIM_GRACE_MS ago. Returns them. */
  reclaimExpired(term: Pick<Term, 'ownerEpoch'>): Promise<string[]> {
    return decideInTransaction(this.options, term, async (trx, now) => {
      const expired = await loadReclaimable(trx, now, RECLAIM_BATCH);
      const changes: BlockChange[] = [];
      for (const before of expired.values()) {
        const decision = decide(before, { type: 'reclaim', now });
        if (decision.ok) changes.push({ before, event: decision.event });
      }
      await saveChanges(trx, changes);
      await forgetGrants(trx, REMEMBER_REQUESTS_HOURS);
      return { events: changes.map(toDecidedEvent), result: changes.map(({ before }) => before.block) };
    });
  }

  /** One request, on what those before it in the transaction have left. */
  private async decide(trx: DatabaseTransaction, now: number, request: BlockRequest): Promise<RequestDecision> {
    const pool = request.op === 'acquire' ? await loadPool(trx, request.pool ?? DEFAULT_POOL) : undefined;
    const known = await loadFor(trx, request, pool);
    const earlierGrant = request.op === 'acquire' ? await findGrant(trx, request.requestId) : undefined;
    const reserved = request.op === 'acquire' ? await loadReserved(trx, request.family, now) : [];
    const context = { pool, leaseMs: this.options.leaseSeconds * 1000, now, earlierGrant, reserved };
    const decision = decideRequest(known, request, context);
    await saveChanges(trx, decision.changes);
    const [granted] = decision.changes;
    if (request.op === 'acquire' && granted) await rememberGrant(trx, request, granted.before.block);
    return decision;
  }
}

function loadFor(
  trx: DatabaseTransaction,
  request: BlockRequest,
  pool: PoolAggregate | undefined,
): Promise<Map<string, BlockAggregate>> {
  if (request.op === 'acquire') {
    const prefixes = pool?.layout.prefixes ?? [];
    return loadBlocksIn(
      trx,
      prefixes.filter(({ address }) => address.family === request.family),
    );
  }
  return loadBlocks(trx, canonicalBlocks(request.blocks) ?? []);
}

/** The event of a change, in its place among those of its block. */
export function toDecidedEvent({ before, event }: BlockChange): DecidedEvent {
  return { event, aggregate: { name: `block/${before.block}`, version: before.version + 1 } };
}
