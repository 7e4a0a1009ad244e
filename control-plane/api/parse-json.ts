import { describeError } from '../../shared/errors.ts';
import { HttpError } from './problem.ts';

/** The value of a body; undefined where there is none. Throws HttpError INVALID_JSON, which shows nothing of the text: it may hold a secret. */
export function parseJson(text: string): unknown {
  // Whether there has to be a body the schema of the route says.
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    const [at = ''] = /at position \d+/.exec(describeError(error)) ?? [];
    const got = ['text that is not JSON', at].join(' ').trimEnd();
    throw new HttpError(400, 'INVALID_JSON', `body: got ${got}, expected a JSON object`);
  }
}
