import { parseArgs } from 'node:util';
import { CodedError } from '../../shared/errors.ts';

export interface ChaosCommand {
  readonly seconds: number;
  readonly seed: number;
  readonly json: boolean;
}

const DEFAULT_SECONDS = 120;
const MIN_SECONDS = 5;
const MAX_SECONDS = 24 * 3_600;
const MAX_SEED = 2 ** 32 - 1;

export const CHAOS_HELP = `Runs a cluster with traffic and simulated nodes under random faults: nodes, NATS, Postgres, leader and standby are killed and
frozen, links are cut, stalled and delayed, a disk fills up, NATS goes back to an older copy of its store. Then it drains the
cluster and looks whether all that must hold does. Exit code 1 when something does not.

  npm run chaos                    ${DEFAULT_SECONDS} s, a random seed
  npm run chaos -- --seconds N     ${MIN_SECONDS} to ${MAX_SECONDS}
  npm run chaos -- --seed N        which faults, and when; 0 to ${MAX_SEED}
  npm run chaos -- --json          the result as JSON on the last line
  npm run chaos -- --help          this text

It needs what npm start needs, and the right to mount a small tmpfs; it names what is missing and installs nothing.
`;

/** Undefined asks for the help text. Throws CodedError BAD_ARGUMENT, which names the argument and what it takes. */
export function parseChaosCommand(args: readonly string[], randomSeed: () => number): ChaosCommand | undefined {
  const options = {
    seconds: { type: 'string' },
    seed: { type: 'string' },
    json: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  } as const;
  let values: ReturnType<typeof parseArgs<{ options: typeof options }>>['values'];
  try {
    ({ values } = parseArgs({ args: [...args], options }));
  } catch (cause) {
    throw new CodedError('BAD_ARGUMENT', cause instanceof Error ? cause.message : String(cause));
  }
  if (values.help) return undefined;
  return {
    seconds: wholeNumber('--seconds', values.seconds, MIN_SECONDS, MAX_SECONDS) ?? DEFAULT_SECONDS,
    seed: wholeNumber('--seed', values.seed, 0, MAX_SEED) ?? randomSeed(),
    json: values.json === true,
  };
}

function wholeNumber(name: string, text: string | undefined, min: number, max: number): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= min && value <= max) return value;
  throw new CodedError(
    'BAD_ARGUMENT',
    `${name}: got ${JSON.stringify(text)}, expected a whole number from ${min} to ${max}`,
  );
}
