import { FLAG, parseArguments } from '../shared/config/parse-arguments.ts';
import { integer } from '../shared/config/parse-config.ts';
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

/** Undefined asks for the help text. Throws ConfigError, which names the argument and what it takes. */
export function parseTunnelOptions(args: readonly string[]): TunnelOptions | undefined {
  const given = parseArguments(args, {
    seconds: integer(MIN_RUN_SECONDS, MAX_RUN_SECONDS),
    rounds: integer(1, MAX_ROUNDS),
    only: { expected: `one or more of ${PATH_NAMES.join(', ')}, with commas`, parse: parsePathNames },
    json: FLAG,
  });
  if (given === undefined) return undefined;
  const { seconds = 5, rounds = 3, only = PATH_NAMES, json } = given.values;
  return { seconds, rounds, only, json };
}

/** As parseTunnelOptions. */
export function parseConnectionsOptions(args: readonly string[]): ConnectionsOptions | undefined {
  const given = parseArguments(args, {
    tunnels: integer(1, MAX_TUNNELS),
    seconds: integer(MIN_IDLE_SECONDS, MAX_IDLE_SECONDS),
    json: FLAG,
  });
  if (given === undefined) return undefined;
  const { tunnels = 500, seconds = 20, json } = given.values;
  return { tunnels, seconds, json };
}

function parsePathNames(text: string): readonly PathName[] | undefined {
  const given = text.split(',');
  const known = PATH_NAMES.filter((name) => given.includes(name));
  return known.length === new Set(given).size ? known : undefined;
}
