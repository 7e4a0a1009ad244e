import { list } from '../../shared/config/parse-config.ts';
import { RESERVED_ACTORS } from '../log/actors.ts';

/** A bearer token of the API and whose it is: a person or a tool, the actor of what is done with it. */
export interface AdminToken {
  readonly name: string;
  readonly token: string;
}

/** Names are short enough for every table (ours); e-mail addresses fit. */
const NAMED_TOKEN = /^([A-Za-z0-9][A-Za-z0-9._@-]{0,63}):([\x21-\x7e]{16,})$/;

const names = list(
  `comma-separated name:token, the names of letters, digits and . _ @ -, not ${RESERVED_ACTORS.join(', ')}, ` +
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
  if (name === undefined || token === undefined || RESERVED_ACTORS.includes(name.toLowerCase())) return undefined;
  return { name, token };
}
