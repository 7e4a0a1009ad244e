import { sql } from 'kysely';
import type { AddressFamily } from '../../shared/ip/address.ts';
import type { Database, DatabaseTransaction } from '../storage/database.ts';
import { insertRows } from '../storage/insert-rows.ts';
import type { PoolUsage } from './pool-usage.ts';

/** How far back growth is looked at (ours): long enough for a morning's rush to show, short enough to show it in time. */
const GROWTH_WINDOW_MINUTES = 60;
/** Less than this says nothing of growth (ours): a handful of clients that come at once would be a trend. */
const MIN_HISTORY_MINUTES = 10;
/** Ours. */
const KEEP_DAYS = 30;

/** Adds in how long each pool is exhausted at the rate at which use grew, by least squares over what was recorded. */
export async function readExhaustion(database: Database, usages: readonly PoolUsage[]): Promise<PoolUsage[]> {
  const { rows } = await sql<{ pool: string; family: AddressFamily; growth: number | null }>`
    SELECT pool, family, regr_slope(used, extract(epoch FROM at)) AS growth FROM pool_usage
    WHERE at > clock_timestamp() - ${GROWTH_WINDOW_MINUTES} * interval '1 minute'
    GROUP BY pool, family
    HAVING max(at) - min(at) >= ${MIN_HISTORY_MINUTES} * interval '1 minute'`.execute(database);
  return usages.map((usage) => {
    const growth = rows.find(({ pool, family }) => pool === usage.pool && family === usage.family)?.growth ?? 0;
    const grows = usage.state === 'active' && growth > 0;
    return { ...usage, exhaustionSeconds: grows ? usage.available / growth : null };
  });
}

/** Writes down how full the pools are now, and forgets what is older than KEEP_DAYS. */
export async function recordUsage(trx: DatabaseTransaction, usages: readonly PoolUsage[]): Promise<void> {
  await insertRows(
    trx,
    'pool_usage',
    {
      pool: { type: 'text', value: ({ pool }) => pool },
      family: { type: 'smallint', value: ({ family }) => family },
      state: { type: 'text', value: ({ state }) => state },
      total: { type: 'double precision', value: ({ total }) => total },
      granted: { type: 'double precision', value: ({ granted }) => granted },
      used: { type: 'double precision', value: ({ used }) => used },
      available: { type: 'double precision', value: ({ available }) => available },
      exhaustion_seconds: { type: 'double precision', value: ({ exhaustionSeconds }) => exhaustionSeconds },
    },
    usages,
  );
  await sql`DELETE FROM pool_usage WHERE at < now() - ${KEEP_DAYS} * interval '1 day'`.execute(trx);
}
