import { sql } from 'kysely';
import { DEFAULT_POOL } from '../../shared/ip/block.ts';
import { formatPrefix } from '../../shared/ip/prefix.ts';
import { type DecidedEvent, type DecisionContext, decideInTransaction } from '../leader/decide-in-transaction.ts';
import { CONFIGURATION_ACTOR, CONTROL_PLANE_ACTOR } from '../log/actors.ts';
import type { DatabaseTransaction } from '../storage/database.ts';
import type { Term } from '../storage/term.ts';
import {
  decidePool,
  evolvePool,
  newPool,
  type PoolAggregate,
  type PoolCommand,
  PoolCommandError,
  type PoolLayout,
} from './pool-aggregate.ts';
import { loadPools, savePool } from './pool-store.ts';

type DecidingTerm = Pick<Term, 'ownerEpoch'>;

/** Adds and retires pools. Every change is one decision in one transaction. */
export class PoolService {
  private readonly context: DecisionContext;

  constructor(context: DecisionContext) {
    this.context = context;
  }

  /** Throws PoolCommandError. */
  async add(term: DecidingTerm, name: string, layout: PoolLayout, actor: string): Promise<void> {
    await this.decide(term, async (_trx, now, pools) => {
      const others = pools.filter((pool) => pool.name !== name);
      return [[poolNamed(pools, name), { type: 'add', layout, others, actor, now }]];
    });
  }

  /**
   * Nodes hand out no more addresses of the pool, and give its blocks back as the last tunnels in them end, at once with
   * `closeTunnels`; then it is retired, which may be now. Throws PoolCommandError.
   */
  async retire(term: DecidingTerm, name: string, closeTunnels: boolean, actor: string): Promise<void> {
    if (name === DEFAULT_POOL) throw new PoolCommandError('POOL_CONFIGURED', name, 'is that of POOLS: change POOLS');
    await this.decide(term, async (trx, now, pools) => {
      const pool = poolNamed(pools, name);
      const commands: [PoolAggregate, PoolCommand][] = [[pool, { type: 'retire', closeTunnels, actor, now }]];
      if (!(await isHeld(trx, pool))) commands.push([pool, { type: 'finish', actor: CONTROL_PLANE_ACTOR, now }]);
      return commands;
    });
  }

  /** Makes the pool `default` what the configuration says. Throws PoolCommandError where it would overlap another one. */
  async configureDefault(term: DecidingTerm, layout: PoolLayout): Promise<void> {
    await this.decide(term, async (_trx, now, pools) => {
      const others = pools.filter((pool) => pool.name !== DEFAULT_POOL);
      const command: PoolCommand = { type: 'configure', layout, others, actor: CONFIGURATION_ACTOR, now };
      return [[poolNamed(pools, DEFAULT_POOL), command]];
    });
  }

  /** Retires those that were to be and of which nobody holds a part any more. Returns their names. */
  async finishRetiring(term: DecidingTerm): Promise<string[]> {
    return this.decide(term, async (trx, now, pools) => {
      const commands: [PoolAggregate, PoolCommand][] = [];
      for (const pool of pools) {
        if (pool.state.status !== 'retiring' || (await isHeld(trx, pool))) continue;
        commands.push([pool, { type: 'finish', actor: CONTROL_PLANE_ACTOR, now }]);
      }
      return commands;
    });
  }

  /** Decides the commands one after the other, those of one pool on top of each other. Returns the names of the pools that changed. */
  private decide(
    term: DecidingTerm,
    commandsFor: (
      trx: DatabaseTransaction,
      now: number,
      pools: readonly PoolAggregate[],
    ) => Promise<readonly [PoolAggregate, PoolCommand][]>,
  ): Promise<string[]> {
    return decideInTransaction(this.context, term, async (trx, now) => {
      const commands = await commandsFor(trx, now, await loadPools(trx));
      const events: DecidedEvent[] = [];
      const changed = new Map<string, PoolAggregate>();
      for (const [pool, command] of commands) {
        const before = changed.get(pool.name) ?? pool;
        const event = decidePool(before, command);
        if (event === undefined) continue;
        const after = evolvePool(before, event);
        changed.set(pool.name, after);
        await savePool(trx, after, event.at);
        events.push({ event, aggregate: { name: `pool/${pool.name}`, version: after.version } });
      }
      return { events, result: [...changed.keys()] };
    });
  }
}

function poolNamed(pools: readonly PoolAggregate[], name: string): PoolAggregate {
  return pools.find((pool) => pool.name === name) ?? newPool(name);
}

/** Whether a node holds a block of the pool. */
async function isHeld(trx: DatabaseTransaction, { layout }: PoolAggregate): Promise<boolean> {
  const { rows } = await sql<{ held: boolean }>`
    SELECT EXISTS (SELECT FROM block_states
      WHERE node IS NOT NULL AND block <<= ANY(${layout.prefixes.map(formatPrefix)}::cidr[])) AS held`.execute(trx);
  return rows[0]?.held === true;
}
