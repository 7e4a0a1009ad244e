import Type from 'typebox';
import { Compile } from 'typebox/compile';
import { PoolName } from '../../shared/events/event-schema.ts';
import type { AddressFamily } from '../../shared/ip/address.ts';
import { type IpPrefix, parsePrefix } from '../../shared/ip/prefix.ts';
import { whyUnusable } from '../../shared/ip/unusable.ts';
import { BLOCK_LENGTHS, DEFAULT_BLOCK_LENGTH } from '../pools/block-lengths.ts';
import { type PoolAggregate, PoolCommandError, type PoolLayout } from '../pools/pool-aggregate.ts';
import type { PoolService } from '../pools/pool-service.ts';
import { loadPool, loadPools } from '../pools/pool-store.ts';
import { type PoolUsage, readPoolUsage } from '../pools/pool-usage.ts';
import type { Database } from '../storage/database.ts';
import type { Term } from '../storage/term.ts';
import { actorOf } from './authenticate.ts';
import { freeText } from './free-text.ts';
import { leading } from './leading.ts';
import { HttpError } from './problem.ts';
import type { Api } from './server.ts';

const Params = Type.Object({ name: freeText(200) });
/** Each field is judged by itself below, so that what is wrong with it can be said. */
const NewPool = Type.Object(
  {
    name: Type.Unknown(),
    v4: Type.Optional(Type.Unknown()),
    v6: Type.Optional(Type.Unknown()),
    blockPrefixV4: Type.Optional(Type.Unknown()),
    blockPrefixV6: Type.Optional(Type.Unknown()),
  },
  { additionalProperties: false },
);
const RetireQuery = Type.Object(
  { closeTunnels: Type.Optional(Type.Union([Type.Literal('true'), Type.Literal('false')])) },
  { additionalProperties: false },
);
const poolName = Compile(PoolName);

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

function parseNewPool(body: { readonly name: unknown } & Readonly<Partial<Record<string, unknown>>>): {
  name: string;
  layout: PoolLayout;
} {
  const { name } = body;
  if (!poolName.Check(name)) throw invalid('name', name, '1 to 63 of a-z, 0-9 and -, no hyphen at either end');
  const blockLength = { 4: parseBlockLength(body, 4), 6: parseBlockLength(body, 6) };
  const prefixes = ([4, 6] as const).flatMap((family) => parseNetwork(body, family, blockLength[family]));
  if (prefixes.length === 0)
    throw new HttpError(400, 'INVALID_REQUEST', 'body: v4, v6 or both are required', { field: 'v4' });
  return { name, layout: { prefixes, blockLength } };
}

function parseNetwork(
  body: Readonly<Partial<Record<string, unknown>>>,
  family: AddressFamily,
  blockLength: number,
): IpPrefix[] {
  const field = `v${family}`;
  const value = body[field];
  if (value === undefined || value === null) return [];
  const example = family === 4 ? '10.98.0.0/16' : 'fd00:98::/64';
  const expected = `an IPv${family} prefix of at most /${blockLength}, the length of its blocks, e.g. ${example}`;
  const prefix = typeof value === 'string' ? parseOrUndefined(value) : undefined;
  if (prefix?.address.family !== family || prefix.length > blockLength) throw invalid(field, value, expected);
  const unusable = whyUnusable(prefix);
  if (unusable !== undefined) throw invalid(field, value, `a network that clients can have addresses of; ${unusable}`);
  return [prefix];
}

function parseBlockLength(body: Readonly<Partial<Record<string, unknown>>>, family: AddressFamily): number {
  const field = `blockPrefixV${family}`;
  const value = body[field] ?? DEFAULT_BLOCK_LENGTH[family];
  const [shortest, longest] = BLOCK_LENGTHS[family];
  if (typeof value !== 'number' || !Number.isInteger(value) || value < shortest || value > longest) {
    throw invalid(field, value, `a whole number from ${shortest} to ${longest}`);
  }
  return value;
}

function parseOrUndefined(text: string): IpPrefix | undefined {
  try {
    return parsePrefix(text);
  } catch {
    return undefined;
  }
}

function invalid(field: string, got: unknown, expected: string): HttpError {
  const detail = `body ${field}: got ${JSON.stringify(got)?.slice(0, 200)}, expected ${expected}`;
  return new HttpError(400, 'INVALID_REQUEST', detail, { field });
}
