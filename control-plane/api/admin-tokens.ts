import { list } from '../../shared/config/parse-config.ts';

/** A bearer token of the API and whose it is: a person or a tool, the actor of what is done with it. */
export interface AdminToken {
  readonly name: string;
  readonly token: string;
}

/** The actor of `ADMIN_TOKEN`. */
export const ADMIN_ACTOR = 'admin';
/** Nobody else may act under these names; `control-plane` is its own decisions. */
const RESERVED_NAMES: ReadonlySet<string> = new Set([ADMIN_ACTOR, 'control-plane']);

/** Names are short enough for every table (ours); e-mail addresses fit. */
const NAMED_TOKEN = /^([A-Za-z0-9][A-Za-z0-9._@-]{0,63}):([\x21-\x7e]{16,})$/;

const names = list(
  'comma-separated name:token, the names of letters, digits and . _ @ -, not admin or control-plane, ' +
    'the tokens of at least 16 printable characters without blanks or commas, each one once',
  parseNamedToken,
);

/** `name:token,name:token`. One name may have several tokens, so that one can be replaced; a token has one name. */
export const namedTokens: typeof names = {
  expected: names.expected,
  parse: (value) => {
    const tokens = names.parse(value);
    return tokens && new Set(tokens.map(({ token }) => token)).size === tokens.length ? tokens : undefined;
  },
};

function parseNamedToken(item: string): AdminToken | undefined {
  const [, name, token] = NAMED_TOKEN.exec(item) ?? [];
  return name === undefined || token === undefined || RESERVED_NAMES.has(name) ? undefined : { name, token };
}
