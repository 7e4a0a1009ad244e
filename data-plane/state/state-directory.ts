import { accessSync, chmodSync, constants, existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { ConfigError } from '../../shared/config/parse-config.ts';
import { describeError, errorCode } from '../../shared/errors.ts';

/** Mode of the directory: its owner's alone. */
const OWNER_ONLY = 0o700;

/** What passes, or is the machine's matter: no other STATE_DIR would help. */
const NOT_THE_NAME = new Set(['ENOSPC', 'EDQUOT', 'EIO', 'EMFILE', 'ENFILE', 'ENOMEM']);

/** Makes the directory of a node's state where there is none, for its owner alone. Throws ConfigError, which names STATE_DIR, when that cannot be. */
export function prepareStateDirectory(directory: string): void {
  try {
    make(resolve(directory));
    chmodSync(directory, OWNER_ONLY);
    // A disk may be mounted for reading only.
    accessSync(directory, constants.W_OK | constants.X_OK);
  } catch (error) {
    if (NOT_THE_NAME.has(errorCode(error) ?? '')) throw error;
    throw new ConfigError('STATE_DIR', directory, `a directory that it can make and write (${describeError(error)})`);
  }
}

/** Node's `recursive` never returns where the parent is there and yet mkdir says ENOENT, as in /proc: it makes the parent again and again. */
function make(directory: string): void {
  if (isDirectory(directory)) return;
  const parent = dirname(directory);
  if (!existsSync(parent)) make(parent);
  try {
    mkdirSync(directory, { mode: OWNER_ONLY });
  } catch (error) {
    // Another process may have made it just now.
    if (!isDirectory(directory)) throw error;
  }
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
