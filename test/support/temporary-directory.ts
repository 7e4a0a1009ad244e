import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const directories: string[] = [];
// A server that a later hook stops may write into its directory once more.
process.once('exit', () => directories.forEach(remove));

/** A directory of its own for a test, gone when the test ends. */
export function temporaryDirectory(t: { after(fn: () => void): void }): string {
  const directory = mkdtempSync(join(tmpdir(), 'masque-vpn-'));
  directories.push(directory);
  t.after(() => remove(directory));
  return directory;
}

function remove(directory: string): void {
  rmSync(directory, { recursive: true, force: true });
}
