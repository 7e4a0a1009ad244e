import { FLAG, parseArguments } from '../../shared/config/parse-arguments.ts';
import { integer } from '../../shared/config/parse-config.ts';

export interface RebuildBenchOptions {
  /** Thousands. */
  readonly records: number;
  readonly json: boolean;
}

const DEFAULT_RECORDS = 2_000;
const MAX_RECORDS = 100_000;

export const REBUILD_HELP = `Fills a log by SQL and measures how fast the projections are rebuilt from it, and verified. Four of five records are samples, 50 in
each window. Exit code 1 when a bar is missed.

  npm run bench:rebuild                  ${DEFAULT_RECORDS} thousand records
  npm run bench:rebuild -- --records N   thousands, 1 to ${MAX_RECORDS}
  npm run bench:rebuild -- --json        the result as JSON on the last line
  npm run bench:rebuild -- --help        this text
`;

/** Undefined asks for the help text. Throws ConfigError, which names the argument and what it takes. */
export function parseRebuildOptions(args: readonly string[]): RebuildBenchOptions | undefined {
  const given = parseArguments(args, { records: integer(1, MAX_RECORDS), json: FLAG });
  if (given === undefined) return undefined;
  const { records = DEFAULT_RECORDS, json } = given.values;
  return { records, json };
}
