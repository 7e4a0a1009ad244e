import Type from 'typebox';
import type { AddressFamily } from '../../shared/ip/address.ts';
import { type PoolAggregate, PoolCommandError } from '../pools/pool-aggregate.ts';
import type { PoolService } from '../pools/pool-service.ts';
import { loadPool, loadPools } from '../pools/pool-store.ts';
import { type PoolUsage, readPoolUsage } from '../pools/pool-usage.ts';
import type { Database } from '../storage/database.ts';
import type { Term } from '../storage/term.ts';
import { actorOf } from './authenticate.ts';
import { freeText } from './free-text.ts';
import { leading } from './leading.ts';
import { NewPool, parseNewPool } from './parse-new-pool.ts';
import type { Api } from './server.ts';

const Params = Type.Object({ name: freeText(200) });
const RetireQuery = Type.Object(
  { closeTunnels: Type.Optional(Type.Enum(['true', 'false'])) },
  { additionalProperties: false },
);

export interface PoolRoutesOptions {
  readonly database: Database;
  readonly pools: PoolService;
  readonly currentTerm: () => Term | undefined;
  /** Called after each commit with which a pool began to retire. */
  readonly onRetiring: () => void;
}

/** Pools of addresses: add, list, get, retire. Changes need the leader; what they return is committed. */
export function addPoolRoutes(app: Api, { database, pools, currentTerm, onRetiring }: PoolRoutesOptions): void {
  app.get('/v1/pools', async () => {
    const usages = await readPoolUsage(database);
    return { pools: (await loadPools(database)).map((pool) => toJson(pool, usages)) };
  });

  app.get('/v1/pools/:name', { schema: { params: Params } }, async (request) => show(database, request.params.name));

  app.post('/v1/pools', { schema: { body: NewPool } }, async (request, reply) => {
    const { name, layout } = parseNewPool(request.body);
    await pools.add(leading(currentTerm()), name, layout, actorOf(request));
    reply.code(201).header('location', `/v1/pools/${name}`);
    return show(database, name);
  });

  app.delete('/v1/pools/:name', { schema: { params: Params, querystring: RetireQuery } }, async (request, reply) => {
    const { name } = request.params;
    await pools.retire(leading(currentTerm()), name, request.query.closeTunnels === 'true', actorOf(request));
    onRetiring();
    const shown = await show(database, name);
    // Accepted: it is over when the last node has given back the last block.
    if (shown.state === 'retiring') reply.code(202);
    return shown;
  });
}

async function show(database: Database, name: string) {
  const pool = await loadPool(database, name);
  if (pool === undefined) throw new PoolCommandError('POOL_UNKNOWN', name, 'does not exist');
  return toJson(pool, await readPoolUsage(database));
}

function toJson({ name, state }: PoolAggregate, usages: readonly PoolUsage[]) {
  const familyOf = (family: AddressFamily) => {
    const usage = usages.find((one) => one.pool === name && one.family === family);
    if (usage === undefined) return null;
    const { prefixes, blockPrefix, total, granted, used, available, exhaustionSeconds } = usage;
    return { prefixes, blockPrefix, total, granted, used, available, exhaustionSeconds };
  };
  return { name, state: state.status, v4: familyOf(4), v6: familyOf(6) };
}
