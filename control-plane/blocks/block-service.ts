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
import { type BlockChange, canonicalBlocks, decideRequest } from './decide-request.ts';

/** Blocks taken back in one transaction (ours). */
const RECLAIM_BATCH = 500;
/** How long a repeated request gets its first answer (ours); a node repeats within seconds. */
const REMEMBER_REQUESTS_HOURS = 24;

export interface BlockServiceOptions extends DecisionContext {
  readonly leaseSeconds: number;
}

/** Grants, renews, takes and reclaims blocks: each request is one decision in one transaction. */
export class BlockService {
  private readonly options: BlockServiceOptions;

  constructor(options: BlockServiceOptions) {
    this.options = options;
  }

  /** Answers a node's request after its events are committed. Throws NotLeaderError and Postgres' errors. */
  handle(term: Pick<Term, 'ownerEpoch'>, request: BlockRequest): Promise<BlockReply> {
    const { leaseSeconds } = this.options;
    return decideInTransaction(this.options, term, async (trx, now) => {
      const pool = request.op === 'acquire' ? await loadPool(trx, request.pool ?? DEFAULT_POOL) : undefined;
      const known = await loadFor(trx, request, pool);
      const earlierGrant = request.op === 'acquire' ? await findGrant(trx, request.requestId) : undefined;
      const reserved = request.op === 'acquire' ? await loadReserved(trx, request.family) : [];
      const context = { pool, leaseMs: leaseSeconds * 1000, now, earlierGrant, reserved };
      const { changes, reply } = decideRequest(known, request, context);
      await saveChanges(trx, changes);
      const [granted] = changes;
      if (request.op === 'acquire' && granted) await rememberGrant(trx, request, granted.before.block);
      return { events: changes.map(toDecidedEvent), result: reply };
    });
  }

  /** Takes back the blocks whose lease ended RECLAIM_GRACE_MS ago. Returns them. */
  reclaimExpired(term: Pick<Term, 'ownerEpoch'>): Promise<string[]> {
    return decideInTransaction(this.options, term, async (trx, now) => {
      const expired = await loadReclaimable(trx, RECLAIM_BATCH);
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
