import Type, { type TString } from 'typebox';

/** Text from outside, up to `maxLength` characters: Postgres takes neither NUL nor half of a surrogate pair, and people no control characters. */
export function freeText(maxLength: number, minLength = 0): TString {
  return Type.String({
    minLength,
    maxLength,
    pattern: '^[^\\p{Cc}\\p{Cs}]*$',
    description: `text of ${minLength === 0 ? 'up' : minLength} to ${maxLength} characters, no control characters`,
  });
}
