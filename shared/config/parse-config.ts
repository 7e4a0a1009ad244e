import { isIPv4, isIPv6 } from 'node:net';
import { describeValue } from '../describe-value.ts';
import { CodedError } from '../errors.ts';

/** The exit code of a process whose configuration or arguments are wrong. */
export const EXIT_BAD_CONFIG = 2;

/** Stands for a secret that was given. */
export const NOT_SHOWN = '(not shown)';

/** A variable or an argument that is wrong. */
export class ConfigError extends CodedError {
  constructor(name: string, got: string | undefined, expected: string) {
    super('BAD_CONFIG', `${name}: got ${describeValue(got)}, expected ${expected}`);
  }
}

/** One variable of the environment: how to read it, and what `--help` says of it. */
export interface Variable<T> {
  readonly help: string;
  /** What is accepted, in words that fit behind "expected". */
  readonly expected: string;
  /** The text used when the variable is not set; without one, the variable is required. */
  readonly fallback?: string;
  /** Secrets are never printed, not even when they are wrong. */
  readonly secret?: boolean;
  /** Returns undefined for text that is not accepted. */
  readonly parse: (text: string) => T | undefined;
  /** The part of such a text that is wrong; without it, all of it is. */
  readonly blame?: (text: string) => string | undefined;
}

export type Variables = Readonly<Record<string, Variable<unknown>>>;
export type ConfigOf<V extends Variables> = { readonly [K in keyof V]: V[K] extends Variable<infer T> ? T : never };

/** Reads all variables into one frozen object. Throws ConfigError that names the first variable that is wrong. */
export function parseConfig<V extends Variables>(variables: V, env: NodeJS.ProcessEnv): ConfigOf<V> {
  const config: Record<string, unknown> = {};
  for (const [name, variable] of Object.entries(variables)) {
    const given = env[name];
    const text = given === undefined || given === '' ? variable.fallback : given;
    const value = text === undefined ? undefined : variable.parse(text);
    if (value === undefined) throw refusal(name, given, variable);
    config[name] = value;
  }
  return Object.freeze(config) as ConfigOf<V>;
}

/** Names a value that is not accepted; undefined is none. */
export function refusal(
  name: string,
  given: string | undefined,
  { expected, secret, blame }: Pick<Variable<unknown>, 'expected' | 'secret' | 'blame'>,
): ConfigError {
  if (secret && given) return new ConfigError(name, NOT_SHOWN, expected);
  return new ConfigError(name, given === undefined ? undefined : (blame?.(given) ?? given), expected);
}

/** The table that `--help` prints. */
export function describeVariables(variables: Variables): string {
  const rows = Object.entries(variables).map(([name, v]) => {
    const fallback = v.fallback === undefined ? 'required' : v.fallback === '' ? 'optional' : `default ${v.fallback}`;
    return [name, `${v.help} (${v.expected}; ${fallback})`] as const;
  });
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `  ${name.padEnd(width)}  ${text}`).join('\n');
}

export const text = (expected: string, pattern = /^.+$/s): Pick<Variable<string>, 'expected' | 'parse'> => ({
  expected,
  parse: (value) => (pattern.test(value) ? value : undefined),
});

/** Optional text: an unset variable is the empty string. */
export const optionalText = (expected: string): Pick<Variable<string>, 'expected' | 'parse' | 'fallback'> => ({
  expected,
  fallback: '',
  parse: (value) => value,
});

export const integer = (min: number, max: number): Pick<Variable<number>, 'expected' | 'parse'> => ({
  expected: `a whole number from ${min} to ${max}`,
  parse: (value) => {
    const number = Number(value);
    return /^-?\d+$/.test(value) && number >= min && number <= max ? number : undefined;
  },
});

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** `host:port` or `[v6]:port`; port 0 lets the kernel choose. What looks like an IPv4 address has to be one: it is no name. */
export const hostPort: Pick<Variable<HostPort>, 'expected' | 'parse'> = {
  expected: 'host:port, e.g. 127.0.0.1:9090 or [::]:4433',
  parse: (value) => {
    const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:\s[\]]+)):(\d{1,5})$/.exec(value);
    const port = Number(match?.[3]);
    if (!match || port > 65535) return undefined;
    const [, ipv6, host = ''] = match;
    if (ipv6 !== undefined) return isIPv6(ipv6) ? { host: ipv6, port } : undefined;
    return /^[\d.]+$/.test(host) && !isIPv4(host) ? undefined : { host, port };
  },
};

export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

export const url = (...protocols: string[]): Pick<Variable<string>, 'expected' | 'parse'> => ({
  expected: `a URL that starts with ${protocols.map((p) => `${p}//`).join(' or ')}, user and password percent-encoded`,
  parse: (value) => {
    if (!URL.canParse(value)) return undefined;
    const { protocol, username, password } = new URL(value);
    const isOne = protocols.includes(protocol) && value.toLowerCase().startsWith(`${protocol}//`);
    return isOne && isPercentEncoded(username + password) ? value : undefined;
  },
});

/** Unlike Postgres, NATS has no server that is meant where none is named. */
export const natsUrl: Pick<Variable<string>, 'expected' | 'parse'> = {
  expected: 'a URL that starts with nats:// or tls:// and a host, user and password percent-encoded',
  parse: (value) => {
    const parsed = url('nats:', 'tls:').parse(value);
    return parsed && new URL(parsed).hostname !== '' ? parsed : undefined;
  },
};

function isPercentEncoded(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}

export const logLevel: Variable<string> = {
  help: 'how much is logged',
  fallback: 'info',
  ...text('one of trace, debug, info, warn, error, silent', /^(trace|debug|info|warn|error|silent)$/),
};

/** Comma-separated items, each parsed by itself; blanks around them are allowed, none at all too. */
export const list = <T>(
  expected: string,
  parseItem: (item: string) => T | undefined,
): Pick<Variable<readonly T[]>, 'expected' | 'parse' | 'blame'> => ({
  expected,
  parse: (value) => {
    const parsed = itemsOf(value).map(parseItem);
    return parsed.every((item) => item !== undefined) ? (parsed as T[]) : undefined;
  },
  blame: (value) => itemsOf(value).find((item) => parseItem(item) === undefined),
});

function itemsOf(list: string): string[] {
  const items = list.split(',').map((item) => item.trim());
  return items.filter((item) => item !== '');
}

/** Turns a parser that throws into one that answers undefined, for use in variables. */
export function orUndefined<T>(parse: (text: string) => T): (text: string) => T | undefined {
  return (value) => {
    try {
      return parse(value);
    } catch {
      return undefined;
    }
  };
}
