import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

/** Mode of what is made: its owner's alone. */
const OWNER_ONLY = 0o700;

/**
 * Makes a directory where there is none, with those above it, for its owner alone; one that is there stays as it is. Throws what mkdir says. Node's
 * `recursive` never returns where the parent is there and yet mkdir says ENOENT, as in /proc: it makes the parent again and again.
 */
export function makeDirectory(path: string): void {
  const directory = resolve(path);
  if (isDirectory(directory)) return;
  const parent = dirname(directory);
  if (!existsSync(parent)) makeDirectory(parent);
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
