import type { FastifyError } from 'fastify';
import { StaticAddressError } from '../clients/check-static-addresses.ts';
import { ClientCommandError } from '../clients/client-aggregate.ts';
import { isDatabaseUnavailable } from '../leader/database-unavailable.ts';
import { PoolChoiceError } from '../pools/check-pool-choice.ts';
import { PoolCommandError } from '../pools/pool-aggregate.ts';
import { NotLeaderError } from '../storage/term.ts';
import { describeViolation, type Violation } from './describe-violation.ts';
import { HttpError, type Problem, problem } from './problem.ts';

/** Bodies are a few short fields (ours). */
export const MAX_BODY_BYTES = 64 * 1024;

/** What fastify refuses, by its code, as we tell it. */
const REFUSED: Readonly<Record<string, readonly [code: string, detail: string]>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: [
    'BODY_TOO_LARGE',
    `body: got more than is allowed, expected at most ${MAX_BODY_BYTES} bytes`,
  ],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: [
    'UNSUPPORTED_MEDIA_TYPE',
    'content-type: got what is none, expected application/json',
  ],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: [
    'INVALID_CONTENT_LENGTH',
    'content-length: expected the length of the body, bytes',
  ],
  FST_ERR_BAD_URL: ['INVALID_URL', 'URL: expected a path that is percent-encoded UTF-8'],
};

/** What an error that a request led to is to the caller. */
export function toProblem(error: unknown): Problem {
  if (error instanceof HttpError) return problem(error.status, error.code, error.message, error.field);
  if (error instanceof ClientCommandError) {
    const status = error.code === 'CLIENT_UNKNOWN' ? 404 : 409;
    return problem(status, error.code, error.message, 'id');
  }
  if (error instanceof StaticAddressError) {
    const status = error.code === 'ADDRESS_TAKEN' || error.code === 'ADDRESS_IN_USE' ? 409 : 400;
    return problem(status, error.code, error.message, 'addresses');
  }
  if (error instanceof PoolChoiceError) {
    return problem(error.code === 'POOL_UNKNOWN' ? 400 : 409, error.code, error.message, 'pool');
  }
  if (error instanceof PoolCommandError) {
    const status = error.code === 'POOL_UNKNOWN' ? 404 : 409;
    return problem(status, error.code, error.message, error.field);
  }
  if (error instanceof NotLeaderError) {
    const detail =
      'there is no leader here: this replica of the control plane only reads, send changes to the one that leads';
    return problem(503, error.code, detail);
  }
  const { validation, validationContext = 'request', code = '', statusCode } = error as Partial<FastifyError>;
  const violation: Violation | undefined = validation?.[0];
  if (violation) {
    const { field, detail } = describeViolation(validationContext, violation);
    return problem(400, 'INVALID_REQUEST', detail, field);
  }
  const refused = REFUSED[code];
  if (statusCode !== undefined && refused) return problem(statusCode, ...refused);
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return problem(statusCode, 'INVALID_REQUEST', 'the request cannot be read');
  }
  if (isDatabaseUnavailable(error)) return problem(503, 'UNAVAILABLE', 'the database cannot be reached now, try again');
  // What went wrong inside is for the log, not for the caller.
  return problem(500, 'INTERNAL', 'the request failed');
}
