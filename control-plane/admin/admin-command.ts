import { parseArgs } from 'node:util';
import { describeVariables } from '../../shared/config/parse-config.ts';
import { CodedError } from '../../shared/errors.ts';
import { controlPlaneVariables } from '../config.ts';

export const adminVariables = { DATABASE_URL: controlPlaneVariables.DATABASE_URL } as const;

export type AdminCommand =
  | { readonly name: 'rebuild'; readonly discard: boolean; readonly json: boolean }
  | { readonly name: 'verify'; readonly limit: number; readonly json: boolean };

const DEFAULT_LIMIT = 20;
const MAX_LIMIT = 10_000;

export const ADMIN_HELP = `usage: npm run admin -- COMMAND

  rebuild             projects the whole log into new tables, which then take the place of the live ones; events are
                      projected meanwhile. One that broke off goes on where it was
  rebuild --discard   drops one that is not done
  verify              projects the log anew, compares that with the live tables, and these with each other. Exit code 1
                      when anything differs
  verify --limit N    how many differences are told of each table and check, 1 to ${MAX_LIMIT} (${DEFAULT_LIMIT})

  --json              the result as JSON on the last line
  --help              this text

It works beside a control plane that runs, and takes from the environment:

${describeVariables(adminVariables)}
`;

const COMMANDS = ['rebuild', 'verify'] as const;
const OPTIONS = {
  help: { type: 'boolean', short: 'h' },
  json: { type: 'boolean' },
  discard: { type: 'boolean' },
  limit: { type: 'string' },
} as const;

/** Undefined asks for the help text. Throws CodedError BAD_ARGUMENT, which names the argument and what is allowed. */
export function parseAdminCommand(args: readonly string[]): AdminCommand | undefined {
  const { values, positionals } = parse(args);
  if (values.help === true) return undefined;
  const [name, ...rest] = positionals;
  const json = values.json === true;
  const takes = (...options: Array<keyof typeof OPTIONS>) => {
    if (rest[0] !== undefined) throw badArgument(name ?? '', rest[0], 'no further argument');
    const other = Object.keys(values).find((option) => option !== 'json' && !options.some((one) => one === option));
    if (other !== undefined) throw badArgument(name ?? '', `--${other}`, allowed(['json', ...options]));
  };
  switch (name) {
    case 'rebuild':
      takes('discard');
      return { name, discard: values.discard === true, json };
    case 'verify':
      takes('limit');
      return { name, limit: wholeNumber('--limit', values.limit ?? String(DEFAULT_LIMIT), 1, MAX_LIMIT), json };
    default:
      throw badArgument('the command', name ?? 'nothing', `one of ${COMMANDS.join(', ')}`);
  }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  } catch (cause) {
    throw new CodedError('BAD_ARGUMENT', cause instanceof Error ? cause.message : String(cause));
  }
}

function allowed(options: readonly string[]): string {
  return options.map((option) => `--${option}`).join(', ');
}

function wholeNumber(name: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= min && value <= max) return value;
  throw badArgument(name, text, `a whole number from ${min} to ${max}`);
}

function badArgument(name: string, got: string, expected: string): CodedError {
  return new CodedError('BAD_ARGUMENT', `${name}: got ${JSON.stringify(got)}, expected ${expected}`);
}
