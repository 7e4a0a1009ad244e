import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

const SECRET_BYTES = 24;

/** Writes a file that only its owner can read, in one step: readers see the old text or the new. */
export function writePrivateFile(path: string, content: string): void {
  mkdirSync(dirname(path), { recursive: true });
  const draft = `${path}.${process.pid}.tmp`;
  writeFileSync(draft, content, { mode: 0o600 });
  // The mode given above counts for new files only.
  chmodSync(draft, 0o600);
  renameSync(draft, path);
}

/** The secret kept in `path`, made at random on first use. It is safe in URLs and configuration files. */
export function secretInFile(path: string): string {
  const kept = readIfPresent(path)?.trim();
  if (kept) return kept;
  const secret = randomBytes(SECRET_BYTES).toString('base64url');
  writePrivateFile(path, `${secret}\n`);
  return secret;
}

export function readIfPresent(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
