import { FLAG, parseArguments, parseValue } from '../../shared/config/parse-arguments.ts';
import { integer, text } from '../../shared/config/parse-config.ts';
import { makeWritableDirectory } from '../../shared/config/writable-directory.ts';

export interface AuditOptions {
  readonly connections: number;
  /** Rows of `traffic`. */
  readonly traffic: number;
  /** A directory to fill once and ask again and again; undefined for one that is removed at the end. */
  readonly data: string | undefined;
  readonly json: boolean;
}

const MIN_CONNECTIONS = 10_000;
const MAX_CONNECTIONS = 10_000_000;
const MAX_TRAFFIC = 100_000_000;

export const AUDIT_HELP = `Fills a Postgres of its own with connections, addresses, traffic, failures, changes and spools, and asks every view and
function for auditors about several clients, addresses, moments, days, nodes and spools. Exit code 1 when one takes too long.

  npm run bench:audit                           5,000,000 connections and 50,000,000 rows of traffic
  npm run bench:audit -- --connections N        ${MIN_CONNECTIONS} to ${MAX_CONNECTIONS}
  npm run bench:audit -- --traffic N            rows of traffic, from as many as connections to ${MAX_TRAFFIC}
  npm run bench:audit -- --data DIR             fills DIR/bench-audit once and keeps it; as many again are not filled again
  npm run bench:audit -- --json                 the result as JSON on the last line
  npm run bench:audit -- --help                 this text

It needs about 19 GB of disk for the full size, where TMPDIR or --data says, and removes them at the end but for --data.
`;

/** Undefined asks for the help text. Throws ConfigError, which names the argument and what it takes. */
export function parseAuditOptions(args: readonly string[]): AuditOptions | undefined {
  const given = parseArguments(args, {
    connections: integer(MIN_CONNECTIONS, MAX_CONNECTIONS),
    traffic: integer(1, MAX_TRAFFIC),
    data: text('a directory'),
    json: FLAG,
  });
  if (given === undefined) return undefined;
  const { connections = 5_000_000, traffic = 10 * connections, data, json } = given.values;
  if (data !== undefined) makeWritableDirectory('--data', data);
  parseValue('--traffic', String(traffic), integer(connections, MAX_TRAFFIC));
  return { connections, traffic, data, json };
}
