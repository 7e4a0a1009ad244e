import { parseArgs } from 'node:util';
import { badArgument, parseWholeNumber } from '../../shared/config/arguments.ts';
import { describeVariables } from '../../shared/config/parse-config.ts';
import { CodedError } from '../../shared/errors.ts';
import { controlPlaneVariables } from '../config.ts';

export const adminVariables = { DATABASE_URL: controlPlaneVariables.DATABASE_URL } as const;

export type AdminCommand =
  | { readonly name: 'rebuild'; readonly discard: boolean; readonly json: boolean }
  | { readonly name: 'verify'; readonly limit: number; readonly json: boolean }
  | { readonly name: 'dead-letter list'; readonly limit: number; readonly json: boolean }
  | { readonly name: 'dead-letter retry'; readonly ids: readonly number[] | 'all'; readonly json: boolean };

const DEFAULT_LIMIT = 20;
const MAX_LIMIT = 10_000;

export const ADMIN_HELP = `usage: npm run admin -- COMMAND

  rebuild             projects the whole log into new tables, which then take the place of the live ones; events are
                      projected meanwhile. One that broke off goes on where it was
  rebuild --discard   drops one that is not done
  verify              projects the log anew, compares that with the live tables, and these with each other. Exit code 1
                      when anything differs
  verify --limit N    how many differences are told of each table and check, 1 to ${MAX_LIMIT} (${DEFAULT_LIMIT})

  dead-letter list    the events that could not be applied, oldest first; --limit N, 1 to ${MAX_LIMIT} (${DEFAULT_LIMIT})
  dead-letter retry ID...
                      applies them again, each at the end of the log; one that fails again stays, with the new error
  dead-letter retry --all
                      the same with all of them. Exit code 1 when any was not applied

  --json              the result as JSON on the last line
  --help              this text

It works beside a control plane that runs, and takes from the environment:

${describeVariables(adminVariables)}
`;

const COMMANDS = ['rebuild', 'verify', 'dead-letter'] as const;
const OPTIONS = {
  help: { type: 'boolean', short: 'h' },
  json: { type: 'boolean' },
  discard: { type: 'boolean' },
  limit: { type: 'string' },
  all: { type: 'boolean' },
} as const;

/** Undefined asks for the help text. Throws CodedError BAD_ARGUMENT, which names the argument and what is allowed. */
export function parseAdminCommand(args: readonly string[]): AdminCommand | undefined {
  const { values, positionals } = parse(args);
  if (values.help === true) return undefined;
  const [name, ...rest] = positionals;
  const json = values.json === true;
  const takesOptions = (...options: Array<keyof typeof OPTIONS>) => {
    const other = Object.keys(values).find((option) => option !== 'json' && !options.some((one) => one === option));
    if (other !== undefined) throw badArgument(name ?? '', `--${other}`, allowed(['json', ...options]));
  };
  const takes = (...options: Array<keyof typeof OPTIONS>) => {
    if (rest[0] !== undefined) throw badArgument(name ?? '', rest[0], 'no further argument');
    takesOptions(...options);
  };
  const limit = () => parseWholeNumber('--limit', values.limit ?? String(DEFAULT_LIMIT), 1, MAX_LIMIT);
  switch (name) {
    case 'rebuild':
      takes('discard');
      return { name, discard: values.discard === true, json };
    case 'verify':
      takes('limit');
      return { name, limit: limit(), json };
    case 'dead-letter': {
      const [what, ...ids] = rest;
      if (what === 'list') {
        if (ids[0] !== undefined) throw badArgument('dead-letter list', ids[0], 'no further argument');
        takesOptions('limit');
        return { name: 'dead-letter list', limit: limit(), json };
      }
      if (what !== 'retry') throw badArgument('dead-letter', what ?? 'nothing', 'list or retry');
      takesOptions('all');
      return { name: 'dead-letter retry', ids: retried(ids, values.all === true), json };
    }
    default:
      throw badArgument('the command', name ?? 'nothing', `one of ${COMMANDS.join(', ')}`);
  }
}

function retried(ids: readonly string[], all: boolean): readonly number[] | 'all' {
  if (all === ids.length > 0) {
    throw badArgument('dead-letter retry', all ? `--all and ${ids.join(' ')}` : 'nothing', 'either ids or --all');
  }
  return all ? 'all' : ids.map((id) => parseWholeNumber('dead-letter retry', id, 1, Number.MAX_SAFE_INTEGER));
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
