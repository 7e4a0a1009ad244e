import { CodedError, errorCode } from '../../shared/errors.ts';

/** Errors of the network, and of a Postgres that starts, stops, is full, stood still for a while, or has no such database yet. */
const CODES =
  /^(ECONN\w+|ENOTFOUND|EAI_AGAIN|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|57P0\d|57014|25P0[34]|08\w{3}|53\w{3}|3D000)$/;
/** What `pg` says without a code, and it and Kysely of a connection that broke before: what ends a transaction then covers why it failed. */
const MESSAGES =
  /timeout exceeded when trying to connect|Connection terminated|timeout expired|is not queryable|connection has been discarded/;

/** Whether an error means that Postgres is away, so that waiting can help. */
export function isDatabaseUnavailable(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (!(error instanceof CodedError) && (CODES.test(errorCode(error) ?? '') || MESSAGES.test(error.message)))
    return true;
  return isDatabaseUnavailable(error.cause);
}
