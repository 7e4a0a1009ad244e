import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Debian keeps some programs of root's in sbin, which is not on every PATH. */
const MORE_DIRECTORIES = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** The PATH of this process with those directories, for the processes that it starts. */
export function completePath(): string {
  const given = (process.env.PATH ?? '').split(delimiter);
  return [...given, ...MORE_DIRECTORIES.filter((directory) => !given.includes(directory))].join(delimiter);
}

/** Where a program is, or undefined. */
export function findProgram(name: string): string | undefined {
  return completePath()
    .split(delimiter)
    .map((directory) => join(directory, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}
