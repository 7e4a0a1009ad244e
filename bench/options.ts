import { parseArgs } from 'node:util';
import { badArgument, parseWholeNumber } from '../shared/config/arguments.ts';
import { CodedError } from '../shared/errors.ts';
import { PATH_NAMES, type PathName } from './path-names.ts';

export interface TunnelOptions {
  /** Of each TCP run. */
  readonly seconds: number;
  readonly rounds: number;
  readonly only: readonly PathName[];
  readonly json: boolean;
}

export interface ConnectionsOptions {
  readonly tunnels: number;
  /** How long the idle tunnels are watched. */
  readonly seconds: number;
  readonly json: boolean;
}

const MIN_RUN_SECONDS = 2;
const MAX_RUN_SECONDS = 60;
const MAX_ROUNDS = 20;
const MIN_IDLE_SECONDS = 5;
const MAX_IDLE_SECONDS = 300;
/** Their clients take 17 MB each, and all stay under 12 GB. */
const MAX_TUNNELS = 600;

export const TUNNEL_HELP = `Measures TCP and UDP throughput, round-trip times and CPU through the raw veth link, openvpn, wireguard-go and a tunnel of
ours, between network namespaces on this machine, in turns. Exit code 1 when a bar is missed.

  npm run bench:tunnel                          all paths, three rounds
  npm run bench:tunnel -- --seconds N           length of each TCP run, ${MIN_RUN_SECONDS} to ${MAX_RUN_SECONDS} s (5)
  npm run bench:tunnel -- --rounds N            1 to ${MAX_ROUNDS} (3)
  npm run bench:tunnel -- --only PATH[,PATH]    of ${PATH_NAMES.join(', ')}
  npm run bench:tunnel -- --json                the result as JSON on the last line
  npm run bench:tunnel -- --help                this text

It needs what npm start needs, and Debian's openvpn, wireguard-go and iperf3; it names what is missing and installs
nothing. It uses addresses that are set aside for documentation only.
`;

export const CONNECTIONS_HELP = `Measures how fast one node sets up tunnels, what CPU and memory they cost it, and what it uses while they are idle. Exit
code 1 when a bar is missed.

  npm run bench:connections                     500 tunnels
  npm run bench:connections -- --tunnels N      1 to ${MAX_TUNNELS}; each takes 17 MB at the clients' end
  npm run bench:connections -- --seconds N      how long they are watched idle, ${MIN_IDLE_SECONDS} to ${MAX_IDLE_SECONDS} s (20)
  npm run bench:connections -- --json           the result as JSON on the last line
  npm run bench:connections -- --help           this text

It needs what npm start needs; it names what is missing and installs nothing.
`;

/** Undefined asks for the help text. Throws CodedError BAD_ARGUMENT, which names the argument and what it takes. */
export function parseTunnelOptions(args: readonly string[]): TunnelOptions | undefined {
  const values = parseArguments(args, { seconds: 'string', rounds: 'string', only: 'string', json: 'boolean' });
  if (values.help) return undefined;
  return {
    seconds: wholeNumber('--seconds', values.seconds, 5, MIN_RUN_SECONDS, MAX_RUN_SECONDS),
    rounds: wholeNumber('--rounds', values.rounds, 3, 1, MAX_ROUNDS),
    only: pathNames(values.only),
    json: values.json === true,
  };
}

/** As parseTunnelOptions. */
export function parseConnectionsOptions(args: readonly string[]): ConnectionsOptions | undefined {
  const values = parseArguments(args, { tunnels: 'string', seconds: 'string', json: 'boolean' });
  if (values.help) return undefined;
  return {
    tunnels: wholeNumber('--tunnels', values.tunnels, 500, 1, MAX_TUNNELS),
    seconds: wholeNumber('--seconds', values.seconds, 20, MIN_IDLE_SECONDS, MAX_IDLE_SECONDS),
    json: values.json === true,
  };
}

/** Arguments by name, undefined where one is not given. */
export type Values = Readonly<Record<string, string | boolean | undefined>>;

/** Throws CodedError BAD_ARGUMENT for an argument that is not in `types`. */
export function parseArguments(args: readonly string[], types: Readonly<Record<string, 'string' | 'boolean'>>): Values {
  const options: Record<string, { type: 'string' | 'boolean'; short?: string }> = {
    help: { type: 'boolean', short: 'h' },
  };
  for (const [name, type] of Object.entries(types)) options[name] = { type };
  try {
    return parseArgs({ args: [...args], options }).values as Values;
  } catch (cause) {
    throw new CodedError('BAD_ARGUMENT', cause instanceof Error ? cause.message : String(cause));
  }
}

/** `fallback` where it is not given. Throws CodedError BAD_ARGUMENT, which names what is allowed. */
export function wholeNumber(name: string, text: Values[string], fallback: number, min: number, max: number): number {
  return text === undefined ? fallback : parseWholeNumber(name, String(text), min, max);
}

function pathNames(text: unknown): readonly PathName[] {
  if (text === undefined) return PATH_NAMES;
  const given = String(text).split(',');
  const known = PATH_NAMES.filter((name) => given.includes(name));
  if (known.length !== new Set(given).size) {
    throw badArgument('--only', text, `one or more of ${PATH_NAMES.join(', ')}, with commas`);
  }
  return known;
}
