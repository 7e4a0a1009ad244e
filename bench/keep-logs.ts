import { readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Removes everything below `directory` but files that end in `.log`, and then the directories that have none, itself among them. The data
 * of a benchmark's servers are gigabytes. Says whether there are logs.
 */
export function keepLogs(directory: string): boolean {
  let logs = false;
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) logs = keepLogs(path) || logs;
    else if (entry.isFile() && entry.name.endsWith('.log')) logs = true;
    else rmSync(path, { force: true });
  }
  if (!logs) rmdirSync(directory);
  return logs;
}
