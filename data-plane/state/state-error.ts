import { CodedError } from '../../shared/errors.ts';

/** What is wrong with the state of a node on disk. */
export type StateErrorCode =
  | 'STATE_UNUSABLE'
  | 'STATE_IN_USE'
  | 'STATE_CORRUPT'
  | 'STATE_TOO_NEW'
  | 'STATE_WRITE_FAILED';

export class StateError extends CodedError {
  constructor(code: StateErrorCode, message: string, options?: { cause?: unknown }) {
    super(code, message, options);
  }
}

/** SQLite's primary result codes (sqlite.org/rescode.html). */
const SQLITE_BUSY = 5;
const SQLITE_LOCKED = 6;
const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;
const PRIMARY_CODE_MASK = 0xff;

function primaryCode(error: unknown): number | undefined {
  if (error instanceof Error && 'errcode' in error && typeof error.errcode === 'number') {
    return error.errcode & PRIMARY_CODE_MASK;
  }
  return undefined;
}

/** Whatever opening the database threw, as one error that names the file and what to do. */
export function openingError(file: string, cause: unknown): StateError {
  if (cause instanceof StateError) return cause;
  switch (primaryCode(cause)) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return new StateError('STATE_IN_USE', `${file} is in use by another process: each node needs its own STATE_DIR`, {
        cause,
      });
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return corrupt(file, cause);
    default:
      return new StateError('STATE_UNUSABLE', `${file} cannot be used as the node's state`, { cause });
  }
}

export function corrupt(file: string, cause: unknown): StateError {
  return new StateError(
    'STATE_CORRUPT',
    `${file} is damaged: restore it or move it away (events in it that were not committed yet are lost then)`,
    { cause },
  );
}
