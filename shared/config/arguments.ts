import { CodedError } from '../errors.ts';

/** Code BAD_ARGUMENT: names an argument of the command line, what it got and what it takes. */
export function badArgument(name: string, got: unknown, expected: string): CodedError {
  return new CodedError('BAD_ARGUMENT', `${name}: got ${JSON.stringify(got)}, expected ${expected}`);
}

/** The number that a text is. Throws CodedError BAD_ARGUMENT. */
export function parseWholeNumber(name: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= min && value <= max) return value;
  throw badArgument(name, text, `a whole number from ${min} to ${max}`);
}
