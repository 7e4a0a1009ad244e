import { FLAG, optionNames, parseArguments, parseValue } from '../../shared/config/parse-arguments.ts';
import { ConfigError, describeVariables, integer } from '../../shared/config/parse-config.ts';
import { controlPlaneVariables } from '../config.ts';

export const adminVariables = { DATABASE_URL: controlPlaneVariables.DATABASE_URL } as const;

export type AdminCommand =
  | { readonly name: 'rebuild'; readonly discard: boolean; readonly json: boolean }
  | { readonly name: 'verify'; readonly limit: number | undefined; readonly json: boolean }
  | { readonly name: 'dead-letter list'; readonly limit: number; readonly json: boolean }
  | { readonly name: 'dead-letter retry'; readonly ids: readonly number[] | 'all'; readonly json: boolean };

const DEFAULT_LIMIT = 20;
const MAX_LIMIT = 10_000;

export const ADMIN_HELP = `usage: npm run admin -- COMMAND

  rebuild             projects the whole log into new tables, which then take the place of the live ones; events are
                      projected meanwhile, and the log says that your user had it done. One that broke off goes on where
                      it was
  rebuild --discard   drops one that is not done
  verify              projects the log anew, compares that with the live tables, and these with each other. Exit code 1
                      when anything differs
  verify --limit N    how many differences are told of each table and check, 1 to ${MAX_LIMIT}; else every one

  dead-letter list    the events that could not be applied, oldest first; --limit N, 1 to ${MAX_LIMIT} (${DEFAULT_LIMIT})
  dead-letter retry ID...
                      applies them again, each at the end of the log, which then says that your user had it applied; one that
                      fails again stays, with the new error
  dead-letter retry --all
                      the same with all of them. Exit code 1 when any was not applied

  --json              the result as JSON on the last line
  --help              this text

It works beside a control plane that runs, and takes from the environment:

${describeVariables(adminVariables)}
`;

const COMMANDS = ['rebuild', 'verify', 'dead-letter'] as const;
const OPTIONS = { json: FLAG, discard: FLAG, limit: integer(1, MAX_LIMIT), all: FLAG } as const;

/** Undefined asks for the help text. Throws ConfigError, which names the argument and what is allowed. */
export function parseAdminCommand(args: readonly string[]): AdminCommand | undefined {
  const given = parseArguments(args, OPTIONS, 'taken');
  if (given === undefined) return undefined;
  const { json, discard, limit, all } = given.values;
  const [name, ...rest] = given.words;
  const takes = (command: string, words: readonly string[], option: Exclude<keyof typeof OPTIONS, 'json'>) => {
    if (words[0] !== undefined) throw new ConfigError(command, words[0], 'no further argument');
    const { json: _, [option]: __, ...others } = given.values;
    const other = Object.entries(others).find(([, value]) => value !== undefined && value !== false);
    if (other) throw new ConfigError(command, `--${other[0]}`, optionNames({ json: FLAG, [option]: OPTIONS[option] }));
  };
  switch (name) {
    case 'rebuild':
      takes(name, rest, 'discard');
      return { name, discard, json };
    case 'verify':
      takes(name, rest, 'limit');
      return { name, limit, json };
    case 'dead-letter': {
      const [what, ...ids] = rest;
      switch (what) {
        case 'list':
          takes('dead-letter list', ids, 'limit');
          return { name: 'dead-letter list', limit: limit ?? DEFAULT_LIMIT, json };
        case 'retry':
          takes('dead-letter retry', [], 'all');
          return { name: 'dead-letter retry', ids: retried(ids, all), json };
        default:
          throw new ConfigError(name, what, 'list or retry');
      }
    }
    default:
      throw new ConfigError('the command', name, `one of ${COMMANDS.join(', ')}`);
  }
}

function retried(ids: readonly string[], all: boolean): readonly number[] | 'all' {
  if (all === ids.length > 0) {
    throw new ConfigError('dead-letter retry', all ? `--all ${ids.join(' ')}` : undefined, 'either ids or --all');
  }
  return all ? 'all' : ids.map((id) => parseValue('dead-letter retry', id, integer(1, Number.MAX_SAFE_INTEGER)));
}
