import { FLAG, parseArguments } from '../../shared/config/parse-arguments.ts';
import { integer } from '../../shared/config/parse-config.ts';

export interface ChaosCommand {
  readonly seconds: number;
  readonly seed: number;
  /** Always: what a run met cannot be had again, so all of it is printed. */
  readonly json: true;
}

const DEFAULT_SECONDS = 120;
const MIN_SECONDS = 5;
const MAX_SECONDS = 24 * 3_600;
const MAX_SEED = 2 ** 32 - 1;

export const CHAOS_HELP = `Runs a cluster with traffic and simulated nodes under random faults: nodes, NATS, Postgres, leader and standby are killed and
frozen, links are cut, stalled and delayed, a disk fills up, NATS goes back to an older copy of its store. Then it drains the
cluster and looks whether all that must hold does. Exit code 1 when something does not. The last line is the result as JSON, with
the seed.

  npm run chaos                    ${DEFAULT_SECONDS} s, a random seed
  npm run chaos -- --seconds N     ${MIN_SECONDS} to ${MAX_SECONDS}
  npm run chaos -- --seed N        which faults, and when; 0 to ${MAX_SEED}
  npm run chaos -- --json          the same, as for benchmarks
  npm run chaos -- --help          this text

It needs what npm start needs, and the right to mount a small tmpfs; it names what is missing and installs nothing.
`;

/** Undefined asks for the help text. Throws ConfigError, which names the argument and what it takes. */
export function parseChaosCommand(args: readonly string[], randomSeed: () => number): ChaosCommand | undefined {
  const given = parseArguments(args, {
    seconds: integer(MIN_SECONDS, MAX_SECONDS),
    seed: integer(0, MAX_SEED),
    json: FLAG,
  });
  if (given === undefined) return undefined;
  const { seconds = DEFAULT_SECONDS, seed = randomSeed() } = given.values;
  return { seconds, seed, json: true };
}
