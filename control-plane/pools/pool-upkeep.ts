import { setTimeout as delay } from 'node:timers/promises';
import { sql } from 'kysely';
import type { NatsConnection } from 'nats';
import { canonicalPrefix, formatPrefix } from '../../shared/ip/prefix.ts';
import type { Logger } from '../../shared/log/logger.ts';
import { type BlockNotice, blockNoticeMessage, blockNoticeSubject } from '../../shared/nats/messages.ts';
import type { LeaderService } from '../leader/leader-service.ts';
import type { Database } from '../storage/database.ts';
import { checkOwnerEpoch } from '../storage/projection-lock.ts';
import type { Term } from '../storage/term.ts';
import type { PoolAggregate } from './pool-aggregate.ts';
import type { PoolService } from './pool-service.ts';
import { loadPools } from './pool-store.ts';
import { readPoolUsage } from './pool-usage.ts';
import { recordUsage } from './usage-history.ts';

/** Between two looks at pools that retire (ours): nodes that were away hear of it then, and empty ones are retired. */
const LOOK_INTERVAL_MS = 5_000;
/** Between two rows of the usage history (ours). */
const RECORD_INTERVAL_MS = 60_000;

/** Tells nodes which blocks to give up, retires pools that nobody holds a part of any more, and writes down how full the others are. */
export class PoolUpkeep implements LeaderService {
  readonly name = 'pools';
  private readonly database: Database;
  private readonly nats: NatsConnection;
  private readonly pools: PoolService;
  private readonly log: Logger;
  private wake = new AbortController();

  constructor(database: Database, nats: NatsConnection, pools: PoolService, log: Logger) {
    this.database = database;
    this.nats = nats;
    this.pools = pools;
    this.log = log;
  }

  /** Says that a pool has just begun to retire, so that nodes hear of it at once. */
  notify(): void {
    this.wake.abort();
  }

  async run(term: Term): Promise<void> {
    let recordedAt = Number.NEGATIVE_INFINITY;
    while (!term.signal.aborted) {
      this.wake = new AbortController();
      await this.retirePools(term);
      if (performance.now() - recordedAt >= RECORD_INTERVAL_MS) {
        recordedAt = performance.now();
        await this.database.transaction().execute(async (trx) => {
          await checkOwnerEpoch(trx, term.ownerEpoch);
          await recordUsage(trx, await readPoolUsage(trx));
        });
      }
      const signal = AbortSignal.any([term.signal, this.wake.signal]);
      await delay(LOOK_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  private async retirePools(term: Term): Promise<void> {
    const retiring = (await loadPools(this.database)).filter(({ state }) => state.status === 'retiring');
    if (retiring.length === 0) return;
    for (const [node, notice] of await this.noticesOf(retiring)) {
      this.nats.publish(blockNoticeSubject(node), blockNoticeMessage.encode(notice));
    }
    const retired = await this.pools.finishRetiring(term);
    if (retired.length > 0) this.log.info({ pools: retired }, 'pools are retired: no node holds a part of them');
  }

  /** By node, what it holds of the pools. */
  private async noticesOf(retiring: readonly PoolAggregate[]): Promise<Map<string, BlockNotice>> {
    const notices = new Map<string, { draining: string[]; closing: string[] }>();
    for (const { layout, state } of retiring) {
      const { rows } = await sql<{ node: string; block: string }>`
        SELECT node, block::text FROM block_states
        WHERE node IS NOT NULL AND block <<= ANY(${layout.prefixes.map(formatPrefix)}::cidr[])`.execute(this.database);
      const kind = state.status === 'retiring' && state.closeTunnels ? 'closing' : 'draining';
      for (const { node, block } of rows) {
        const notice = notices.get(node) ?? { draining: [], closing: [] };
        notices.set(node, notice);
        notice[kind].push(canonicalPrefix(block));
      }
    }
    return notices;
  }
}
