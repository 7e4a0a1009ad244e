import { ConfigError } from '../../shared/config/parse-config.ts';
import { describeError } from '../../shared/errors.ts';
import { DEFAULT_POOL } from '../../shared/ip/block.ts';
import { formatPrefix } from '../../shared/ip/prefix.ts';
import type { Logger } from '../../shared/log/logger.ts';
import type { LeaderService } from '../leader/leader-service.ts';
import type { Database } from '../storage/database.ts';
import { decidePool, newPool, PoolCommandError, type PoolLayout } from './pool-aggregate.ts';
import type { PoolService } from './pool-service.ts';
import { loadPools } from './pool-store.ts';

/** Throws ConfigError where POOLS overlaps a pool that was added at run time. */
export async function checkConfiguredPool(database: Database, layout: PoolLayout): Promise<void> {
  const pools = await loadPools(database);
  const pool = pools.find(({ name }) => name === DEFAULT_POOL) ?? newPool(DEFAULT_POOL);
  const others = pools.filter(({ name }) => name !== DEFAULT_POOL);
  try {
    decidePool(pool, { type: 'configure', layout, others, actor: '', now: Date.now() });
  } catch (error) {
    if (!(error instanceof PoolCommandError)) throw error;
    throw new ConfigError(
      'POOLS',
      layout.prefixes.map(formatPrefix).join(),
      `networks of no other pool: ${error.message}`,
    );
  }
}

/** The service, once the pool `default` is what the configuration says: it is the first pool that nodes ask for. */
export function afterDefaultPool(
  pools: PoolService,
  layout: PoolLayout,
  service: LeaderService,
  log: Logger,
): LeaderService {
  return {
    name: service.name,
    async run(term) {
      try {
        await pools.configureDefault(term, layout);
      } catch (error) {
        if (!(error instanceof PoolCommandError)) throw error;
        // Added while another replica led, whose POOLS had room for it. The pool stays as it was, and so do its clients.
        log.error(`POOLS does not take effect: ${describeError(error)}`);
      }
      await service.run(term);
    },
  };
}
