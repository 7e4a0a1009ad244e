import { statSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError } from '../../shared/config/parse-config.ts';
import { makeWritableDirectory } from '../../shared/config/writable-directory.ts';

const WRITABLE_BY_ALL = 0o002;

/**
 * Makes the directory of a node's state where there is none, for its owner alone. One that is there keeps its mode: it may be shared, as /tmp is, and
 * is refused then, since everybody could put a state of theirs there. Throws ConfigError, which names STATE_DIR.
 */
export function prepareStateDirectory(directory: string): void {
  makeWritableDirectory('STATE_DIR', directory);
  if ((statSync(directory).mode & WRITABLE_BY_ALL) === 0) return;
  const own = join(directory, 'masque-vpn');
  throw new ConfigError('STATE_DIR', directory, `a directory that not everybody can write, e.g. ${own}`);
}
