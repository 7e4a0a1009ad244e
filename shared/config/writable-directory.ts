import { accessSync, constants } from 'node:fs';
import { describeError, errorCode } from '../errors.ts';
import { makeDirectory } from '../make-directory.ts';
import { ConfigError } from './parse-config.ts';

/** What passes, or is the machine's matter: no other directory would help. */
const NOT_THE_NAME = new Set(['ENOSPC', 'EDQUOT', 'EIO', 'EMFILE', 'ENFILE', 'ENOMEM']);

/** Makes the directory that a variable or an argument names, if need be. Throws ConfigError, which names it, when that cannot be. */
export function makeWritableDirectory(name: string, directory: string): void {
  try {
    makeDirectory(directory);
    // A disk may be mounted for reading only.
    accessSync(directory, constants.W_OK | constants.X_OK);
  } catch (error) {
    if (NOT_THE_NAME.has(errorCode(error) ?? '')) throw error;
    throw new ConfigError(name, directory, `a directory that it can make and write (${describeError(error)})`);
  }
}
