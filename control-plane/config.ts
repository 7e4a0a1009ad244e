import {
  ConfigError,
  type ConfigOf,
  hostPort,
  integer,
  list,
  logLevel,
  NOT_SHOWN,
  natsUrl,
  orUndefined,
  parseConfig,
  text,
  url,
  type Variable,
} from '../shared/config/parse-config.ts';
import { MAX_POOL_NETWORKS } from '../shared/events/control-events.ts';
import { formatPrefix, type IpPrefix, parsePrefix, prefixesOverlap } from '../shared/ip/prefix.ts';
import { whyUnusable } from '../shared/ip/unusable.ts';
import { type AdminToken, namedTokens } from './api/admin-tokens.ts';
import { ADMIN_ACTOR } from './log/actors.ts';
import { BLOCK_LENGTHS, DEFAULT_BLOCK_LENGTH } from './pools/block-lengths.ts';

/** A hundred years. */
const MAX_RETENTION_DAYS = 36_500;

const variable = <T>(value: Variable<T>): Variable<T> => value;

export const controlPlaneVariables = {
  DATABASE_URL: variable({
    help: 'Postgres, with user and password',
    secret: true,
    ...url('postgres:', 'postgresql:'),
  }),
  NATS_URL: variable({
    help: 'NATS with JetStream, with user and password',
    secret: true,
    fallback: 'nats://127.0.0.1:4222',
    ...natsUrl,
  }),
  HTTP_LISTEN: variable({
    help: 'where the API, /metrics, /healthz and /readyz listen',
    fallback: '127.0.0.1:9090',
    ...hostPort,
  }),
  ADMIN_TOKEN: variable({
    help: 'the bearer token of the API under /v1',
    secret: true,
    ...text('at least 16 printable characters without blanks', /^[\x21-\x7e]{16,}$/),
  }),
  ADMIN_TOKENS: variable({
    help: 'further bearer tokens of the API, each with the name of the person or tool whose changes it makes',
    secret: true,
    fallback: '',
    ...namedTokens,
  }),
  POOLS: variable({
    help: 'networks of the pool "default", which clients get their addresses from, IPv4 and IPv6',
    fallback: '10.99.0.0/16,fd00:99::/64',
    ...list(
      'comma-separated prefixes, host bits zero, that do not overlap, e.g. 10.99.0.0/16,fd00:99::/64',
      orUndefined(parsePrefix),
    ),
  }),
  BLOCK_PREFIX_V4: variable({
    help: 'length of the prefixes that IPv4 pools are split into, one or more for each node',
    fallback: String(DEFAULT_BLOCK_LENGTH[4]),
    ...integer(...BLOCK_LENGTHS[4]),
  }),
  BLOCK_PREFIX_V6: variable({
    help: 'length of the prefixes that IPv6 pools are split into',
    fallback: String(DEFAULT_BLOCK_LENGTH[6]),
    ...integer(...BLOCK_LENGTHS[6]),
  }),
  LEASE_SECONDS: variable({
    help: 'how long a node holds a block after each renewal',
    fallback: '3600',
    // A node renews every 5 minutes and stops assigning 60 s before the end (both its own rules).
    ...integer(10, 30 * 24 * 3600),
  }),
  STATIC_LEASE_SECONDS: variable({
    help: 'how long a node holds a static address after each renewal: what its client waits at most when the node dies',
    fallback: '60',
    // A node renews when a third is over.
    ...integer(3, 3600),
  }),
  EVENTS_RETENTION_DAYS: variable({
    help: 'how long events stay in the log; a snapshot keeps what follows from older ones. 0: for ever',
    fallback: '0',
    ...integer(0, MAX_RETENTION_DAYS),
  }),
  TRAFFIC_RETENTION_DAYS: variable({
    help: 'how long the windows of traffic are kept one by one; hours, days and totals stay. 0: for ever',
    fallback: '0',
    ...integer(0, MAX_RETENTION_DAYS),
  }),
  METRICS_CLIENT_LIMIT: variable({
    help: 'how many clients have metric series of their own; the rest is counted under client_id="_other"',
    fallback: '10000',
    ...integer(0, 1_000_000),
  }),
  LOG_LEVEL: logLevel,
} as const;

export type ControlPlaneConfig = ConfigOf<typeof controlPlaneVariables>;

/** Reads and cross-checks the environment. Throws ConfigError that names the variable. */
export function parseControlPlaneConfig(env: NodeJS.ProcessEnv): ControlPlaneConfig {
  const config = parseConfig(controlPlaneVariables, env);
  if (config.ADMIN_TOKENS.some(({ token }) => token === config.ADMIN_TOKEN)) {
    throw new ConfigError('ADMIN_TOKENS', NOT_SHOWN, 'tokens other than the one in ADMIN_TOKEN');
  }
  checkPools(config, env);
  return config;
}

/** All tokens of the API with their names. */
export function adminTokensOf(config: Pick<ControlPlaneConfig, 'ADMIN_TOKEN' | 'ADMIN_TOKENS'>): AdminToken[] {
  return [{ name: ADMIN_ACTOR, token: config.ADMIN_TOKEN }, ...config.ADMIN_TOKENS];
}

function checkPools(config: ControlPlaneConfig, env: NodeJS.ProcessEnv): void {
  const { POOLS: pools } = config;
  if (pools.length === 0) throw new ConfigError('POOLS', env.POOLS, 'at least one prefix');
  if (pools.length > MAX_POOL_NETWORKS) {
    throw new ConfigError('POOLS', `${pools.length} prefixes`, `at most ${MAX_POOL_NETWORKS}`);
  }
  for (const [i, pool] of pools.entries()) {
    const unusable = whyUnusable(pool);
    if (unusable !== undefined) {
      throw new ConfigError('POOLS', formatPrefix(pool), `networks that clients can have addresses of; ${unusable}`);
    }
    checkBlockLength(pool, config, env);
    const other = pools.slice(0, i).find((earlier) => prefixesOverlap(earlier, pool));
    if (other) {
      throw new ConfigError('POOLS', formatPrefix(pool), `a prefix that does not overlap ${formatPrefix(other)}`);
    }
  }
}

/** Blocks are parts of their network, or all of it. */
function checkBlockLength(pool: IpPrefix, config: ControlPlaneConfig, env: NodeJS.ProcessEnv): void {
  const { family } = pool.address;
  const name = `BLOCK_PREFIX_V${family}` as const;
  const [, longest] = BLOCK_LENGTHS[family];
  if (pool.length <= config[name]) return;
  if (env[name] && pool.length <= longest) {
    const expected = `a whole number from ${pool.length} to ${longest}, since POOLS has ${formatPrefix(pool)}`;
    throw new ConfigError(name, env[name], expected);
  }
  throw new ConfigError('POOLS', formatPrefix(pool), `prefixes of at most /${config[name]}, the length in ${name}`);
}
