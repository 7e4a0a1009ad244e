import { parseArgs } from 'node:util';
import { ConfigError, NOT_SHOWN, refusal, type Variable } from './parse-config.ts';

/** An option that takes a value, e.g. `--limit 20`. */
export type ValueOption<T> = Pick<Variable<T>, 'expected' | 'parse' | 'secret' | 'blame'>;
/** An option without a value, e.g. `--json`. */
export const FLAG = 'flag';
export type Options = Readonly<Record<string, ValueOption<unknown> | typeof FLAG>>;

/** What was given: values are undefined, flags false, where they were not. */
export type ValuesOf<O extends Options> = {
  readonly [K in keyof O]: O[K] extends ValueOption<infer T> ? T | undefined : boolean;
};

export interface Arguments<O extends Options> {
  readonly values: ValuesOf<O>;
  /** What belongs to no option. */
  readonly words: readonly string[];
}

/** Whether words that belong to no option may stand there; `secret`: they may not, and are not shown, since one may be a token. */
export type Words = 'taken' | 'refused' | 'secret';

/**
 * Reads a command line; undefined where it asks for help, by `--help` or `-h`. Where an option is given twice, the last one counts.
 * Throws ConfigError that names the first option that is wrong, what it got and what it takes.
 */
export function parseArguments<O extends Options>(
  args: readonly string[],
  options: O,
  words: Words = 'refused',
): Arguments<O> | undefined {
  const { tokens, positionals } = parseArgs({
    args: [...args],
    options: {
      help: { type: 'boolean', short: 'h' },
      ...Object.fromEntries(
        Object.entries(options).map(([name, option]) => [name, { type: option === FLAG ? 'boolean' : 'string' }]),
      ),
    },
    allowPositionals: true,
    // What is wrong is said below, in our words.
    strict: false,
    tokens: true,
  });
  if (tokens.some((token) => token.kind === 'option' && token.name === 'help')) return undefined;
  const values: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(options)) values[name] = option === FLAG ? false : undefined;
  for (const token of tokens) {
    if (token.kind === 'positional' && words !== 'taken') {
      throw unknownArgument(words === 'secret' ? NOT_SHOWN : token.value, options);
    }
    if (token.kind !== 'option') continue;
    const { name, rawName, value, inlineValue } = token;
    const option = Object.hasOwn(options, name) ? options[name] : undefined;
    if (option === undefined) throw unknownArgument(rawName, options);
    if (option === FLAG) {
      if (value !== undefined) throw new ConfigError(rawName, value, 'no value');
      values[name] = true;
    } else {
      // The next option is not the value of this one.
      const isMissing = value === undefined || (!inlineValue && value.startsWith('--'));
      values[name] = parseValue(rawName, isMissing ? undefined : value, option);
    }
  }
  return { values: values as ValuesOf<O>, words: positionals };
}

/** The value of a text, undefined where there is none to read. Throws ConfigError. */
export function parseValue<T>(name: string, text: string | undefined, option: ValueOption<T>): T {
  const value = text === undefined ? undefined : option.parse(text);
  if (value === undefined) throw refusal(name, text, option);
  return value;
}

/** The names of options, as they are given. */
export function optionNames(options: Options): string {
  return [...Object.keys(options), 'help'].map((name) => `--${name}`).join(', ');
}

function unknownArgument(got: string, options: Options): ConfigError {
  return new ConfigError('arguments', got, `one of ${optionNames(options)}`);
}
