import { describeValue } from '../../shared/describe-value.ts';
import { CodedError } from '../../shared/errors.ts';
import { DEFAULT_POOL } from '../../shared/ip/block.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import { loadPools } from './pool-store.ts';

/** A client cannot be given a pool that has no addresses for it. */
export class PoolChoiceError extends CodedError {
  constructor(code: 'POOL_UNKNOWN' | 'POOL_RETIRING', pool: string, why: string) {
    super(code, `pool: got ${describeValue(pool)}, ${why}`);
  }
}

/** Throws PoolChoiceError, which names the pools that a client can have. */
export async function checkPoolChoice(trx: DatabaseTransaction, name: string): Promise<void> {
  // It is there from when the first leader begins, and cannot go.
  if (name === DEFAULT_POOL) return;
  const pools = await loadPools(trx);
  const active = pools.filter(({ state }) => state.status === 'active').map((pool) => pool.name);
  if (active.includes(name)) return;
  const isRetiring = pools.some((pool) => pool.name === name && pool.state.status === 'retiring');
  const why = isRetiring ? 'which is retiring' : 'which does not exist';
  throw new PoolChoiceError(
    isRetiring ? 'POOL_RETIRING' : 'POOL_UNKNOWN',
    name,
    `${why}; expected one of ${active.join(', ')}`,
  );
}
