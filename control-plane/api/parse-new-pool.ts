import Type, { type Static } from 'typebox';
import { Compile } from 'typebox/compile';
import { describeValue } from '../../shared/describe-value.ts';
import { PoolName } from '../../shared/events/event-schema.ts';
import type { AddressFamily } from '../../shared/ip/address.ts';
import { InvalidPrefixError, type IpPrefix, parsePrefix } from '../../shared/ip/prefix.ts';
import { whyUnusable } from '../../shared/ip/unusable.ts';
import { BLOCK_LENGTHS, DEFAULT_BLOCK_LENGTH } from '../pools/block-lengths.ts';
import type { PoolLayout } from '../pools/pool-aggregate.ts';
import { HttpError } from './problem.ts';

/** Each field is judged by itself below, so that what is wrong with it can be said. */
export const NewPool = Type.Object(
  {
    name: Type.Optional(Type.Unknown()),
    v4: Type.Optional(Type.Unknown()),
    v6: Type.Optional(Type.Unknown()),
    blockPrefixV4: Type.Optional(Type.Unknown()),
    blockPrefixV6: Type.Optional(Type.Unknown()),
  },
  { additionalProperties: false },
);
type NewPool = Static<typeof NewPool>;

const poolName = Compile(PoolName);
const EXAMPLES: Readonly<Record<AddressFamily, string>> = { 4: '10.98.0.0/16', 6: 'fd00:98::/64' };

/** The pool that a request asks for. Throws HttpError that names the field, its value and what is allowed. */
export function parseNewPool(body: NewPool): { readonly name: string; readonly layout: PoolLayout } {
  const { name } = body;
  if (!poolName.Check(name)) throw invalid('name', name, '1 to 63 of a-z, 0-9 and -, no hyphen at either end');
  const [v4, v6] = [parseNetwork(body, 4), parseNetwork(body, 6)];
  const prefixes = [v4, v6].filter((prefix) => prefix !== undefined);
  if (prefixes.length === 0)
    throw new HttpError(400, 'INVALID_REQUEST', 'body: v4, v6 or both are required', { field: 'v4' });
  const blockLength = { 4: parseBlockLength(body, 4, v4), 6: parseBlockLength(body, 6, v6) };
  return { name, layout: { prefixes, blockLength } };
}

/** No longer than a block can be; than the blocks that are asked for is for their field to judge. */
function parseNetwork(body: NewPool, family: AddressFamily): IpPrefix | undefined {
  const field = `v${family}` as const;
  const value = body[field] ?? undefined;
  if (value === undefined) return undefined;
  const [, longestBlock] = BLOCK_LENGTHS[family];
  const blockField = `blockPrefixV${family}` as const;
  const isDefault = (body[blockField] ?? undefined) === undefined;
  const longest = isDefault ? DEFAULT_BLOCK_LENGTH[family] : longestBlock;
  const more = isDefault ? ` (/${longestBlock} with ${blockField})` : '';
  const expected = `an IPv${family} prefix of at most /${longest}${more}, e.g. ${EXAMPLES[family]}`;
  const prefix = parsePrefixOf(field, value, expected);
  if (prefix.address.family !== family || prefix.length > longest) throw invalid(field, value, expected);
  const unusable = whyUnusable(prefix);
  if (unusable !== undefined) throw invalid(field, value, `a network that clients can have addresses of; ${unusable}`);
  return prefix;
}

/** Blocks are parts of their network, or all of it. */
function parseBlockLength(body: NewPool, family: AddressFamily, network: IpPrefix | undefined): number {
  const field = `blockPrefixV${family}` as const;
  const value = body[field] ?? DEFAULT_BLOCK_LENGTH[family];
  const [shortestBlock, longest] = BLOCK_LENGTHS[family];
  const shortest = Math.max(shortestBlock, network?.length ?? 0);
  if (typeof value === 'number' && Number.isInteger(value) && value >= shortest && value <= longest) return value;
  const why = shortest === shortestBlock ? '' : `, since v${family} is a /${shortest}`;
  throw invalid(field, value, `a whole number from ${shortest} to ${longest}${why}`);
}

function parsePrefixOf(field: keyof NewPool, value: unknown, expected: string): IpPrefix {
  if (typeof value !== 'string') throw invalid(field, value, expected);
  try {
    return parsePrefix(value);
  } catch (error) {
    throw invalid(field, value, error instanceof InvalidPrefixError ? `${expected}; ${error.why}` : expected);
  }
}

function invalid(field: keyof NewPool, got: unknown, expected: string): HttpError {
  return new HttpError(400, 'INVALID_REQUEST', `body ${field}: got ${describeValue(got)}, expected ${expected}`, {
    field,
  });
}
