import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ownIdentity } from './janitor.ts';
import { PrerequisiteError } from './prerequisites.ts';
import { isAlive, type ProcessIdentity } from './process-identity.ts';
import { readIfPresent, writePrivateFile } from './secret-file.ts';

/**
 * Takes a data directory for this process; two clusters on the same data would ruin it. Returns what gives it back.
 * Throws PrerequisiteError when another running process has it.
 */
export function takeDataDirectory(directory: string): () => void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const file = ownerFile(directory);
  const owner = liveOwner(directory);
  if (owner !== undefined) {
    throw new PrerequisiteError(`${directory} is in use by process ${owner.pid}: stop that one first, or use --once`);
  }
  writePrivateFile(file, JSON.stringify(ownIdentity()));
  return () => rmSync(file, { force: true });
}

/** The running process that has the directory, or undefined. */
export function liveOwner(directory: string): ProcessIdentity | undefined {
  const text = readIfPresent(ownerFile(directory));
  const owner = text === undefined ? undefined : (JSON.parse(text) as ProcessIdentity);
  return owner !== undefined && isAlive(owner) ? owner : undefined;
}

const ownerFile = (directory: string): string => join(directory, 'owner.json');
