import { CodedError } from '../../shared/errors.ts';
import type { NewEvent } from '../../shared/events/envelope.ts';
import type { AddressFamily } from '../../shared/ip/address.ts';
import { ADDRESS_REST_MS } from '../../shared/ip/block.ts';
import { formatPrefix, type IpPrefix, parsePrefix, prefixesOverlap } from '../../shared/ip/prefix.ts';

/** The networks of a pool, and the lengths of the blocks that they are split into. */
export interface PoolLayout {
  readonly prefixes: readonly IpPrefix[];
  readonly blockLength: Readonly<Record<AddressFamily, number>>;
}

/** Times are milliseconds since 1970, by Postgres' clock. */
export type PoolState =
  | { readonly status: 'unknown' }
  | { readonly status: 'active' }
  /** Nobody gets addresses of it any more; with `closeTunnels` those who have some lose them. */
  | { readonly status: 'retiring'; readonly since: number; readonly closeTunnels: boolean }
  | { readonly status: 'retired'; readonly since: number };

/** The state after `version` events; version 0 is a pool that never was. */
export interface PoolAggregate {
  readonly name: string;
  readonly version: number;
  readonly layout: PoolLayout;
  readonly state: PoolState;
}

export type PoolEvent = NewEvent<'pool.added' | 'pool.changed' | 'pool.retiring' | 'pool.retired'>;

/** `others` are all other pools. */
export type PoolCommand =
  | {
      readonly type: 'add';
      readonly layout: PoolLayout;
      readonly others: readonly PoolAggregate[];
      readonly actor: string;
      readonly now: number;
    }
  /** Makes the pool what the configuration says, whatever it was. */
  | {
      readonly type: 'configure';
      readonly layout: PoolLayout;
      readonly others: readonly PoolAggregate[];
      readonly actor: string;
      readonly now: number;
    }
  | { readonly type: 'retire'; readonly closeTunnels: boolean; readonly actor: string; readonly now: number }
  /** No node holds a part of the pool any more. */
  | { readonly type: 'finish'; readonly actor: string; readonly now: number };

/** What cannot be done with a pool. POOL_CONFIGURED: the configuration says what it is, and nobody else. */
export class PoolCommandError extends CodedError {
  /** What of the pool is to blame: a network, of that family, or which pool it is. */
  readonly field: 'name' | 'v4' | 'v6';

  constructor(
    code: 'POOL_UNKNOWN' | 'POOL_EXISTS' | 'POOL_OVERLAPS' | 'POOL_RETIRING' | 'POOL_CONFIGURED',
    pool: string,
    why: string,
    field: PoolCommandError['field'] = 'name',
  ) {
    super(code, `pool "${pool}" ${why}`);
    this.field = field;
  }
}

export function newPool(name: string): PoolAggregate {
  return { name, version: 0, layout: { prefixes: [], blockLength: { 4: 32, 6: 128 } }, state: { status: 'unknown' } };
}

/** The event that a command leads to; undefined where nothing is left to do. Pure. Throws PoolCommandError. */
export function decidePool(pool: PoolAggregate, command: PoolCommand): PoolEvent | undefined {
  const { name, state } = pool;
  const at = new Date(command.now).toISOString();
  switch (command.type) {
    case 'add': {
      if (state.status === 'active') throw new PoolCommandError('POOL_EXISTS', name, 'is there already');
      if (state.status === 'retiring') throw new PoolCommandError('POOL_RETIRING', name, 'is retiring still');
      refuseOverlap(pool, command);
      return { type: 'pool.added', at, data: { name, ...layoutData(command.layout), actor: command.actor } };
    }
    case 'configure': {
      refuseOverlap(pool, command);
      const data = { name, ...layoutData(command.layout), actor: command.actor };
      if (state.status !== 'active') return { type: 'pool.added', at, data };
      const isSame = JSON.stringify(layoutData(pool.layout)) === JSON.stringify(layoutData(command.layout));
      return isSame ? undefined : { type: 'pool.changed', at, data };
    }
    case 'retire': {
      if (state.status === 'unknown') throw new PoolCommandError('POOL_UNKNOWN', name, 'does not exist');
      const { closeTunnels, actor } = command;
      if (state.status === 'retired') return undefined;
      if (state.status === 'retiring' && (state.closeTunnels || !closeTunnels)) return undefined;
      return { type: 'pool.retiring', at, data: { name, closeTunnels, actor } };
    }
    case 'finish':
      return state.status === 'retiring'
        ? { type: 'pool.retired', at, data: { name, actor: command.actor } }
        : undefined;
    default:
      return command satisfies never;
  }
}

/** The aggregate after one more event. */
export function evolvePool(pool: PoolAggregate, event: PoolEvent): PoolAggregate {
  const version = pool.version + 1;
  switch (event.type) {
    case 'pool.added':
    case 'pool.changed': {
      const { prefixes, blockPrefixV4, blockPrefixV6 } = event.data;
      const layout = { prefixes: prefixes.map(parsePrefix), blockLength: { 4: blockPrefixV4, 6: blockPrefixV6 } };
      return { ...pool, version, layout, state: { status: 'active' } };
    }
    case 'pool.retiring': {
      const since = pool.state.status === 'retiring' ? pool.state.since : Date.parse(event.at);
      return { ...pool, version, state: { status: 'retiring', since, closeTunnels: event.data.closeTunnels } };
    }
    case 'pool.retired':
      return { ...pool, version, state: { status: 'retired', since: Date.parse(event.at) } };
    default:
      return event satisfies never;
  }
}

/** The addresses of a retired pool rest like those of a block: nodes' last events of them may still be on their way. */
export function isResting({ state }: PoolAggregate, now: number): boolean {
  return state.status === 'retired' && now < state.since + ADDRESS_REST_MS;
}

/** Throws PoolCommandError, naming both prefixes, where the layout takes addresses of another pool, or of itself as it was until just now. */
function refuseOverlap(
  pool: PoolAggregate,
  {
    layout,
    others,
    now,
  }: { readonly layout: PoolLayout; readonly others: readonly PoolAggregate[]; readonly now: number },
): void {
  for (const other of [...others, pool]) {
    const isInUse = other.state.status === 'retiring' || (other.state.status === 'active' && other !== pool);
    if (!isInUse && !isResting(other, now)) continue;
    for (const theirs of other.layout.prefixes) {
      const mine = layout.prefixes.find((prefix) => prefixesOverlap(prefix, theirs));
      if (mine === undefined) continue;
      const why = isResting(other, now) ? ', which was retired less than a minute ago' : '';
      const what = `has ${formatPrefix(mine)}, which overlaps ${formatPrefix(theirs)} of pool "${other.name}"${why}`;
      throw new PoolCommandError('POOL_OVERLAPS', pool.name, what, `v${mine.address.family}`);
    }
  }
}

function layoutData({ prefixes, blockLength }: PoolLayout) {
  return { prefixes: prefixes.map(formatPrefix), blockPrefixV4: blockLength[4], blockPrefixV6: blockLength[6] };
}
