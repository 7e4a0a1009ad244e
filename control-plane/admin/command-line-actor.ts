import { userInfo } from 'node:os';

/**
 * The actor of what is done on the command line: `cli:` and the user of the operating system, or its number where it has no
 * name. No admin token can have such a name, because of the colon.
 */
export function commandLineActor(readUser: () => { readonly username: string } = userInfo): string {
  try {
    return `cli:${readUser().username}`;
  } catch {
    return `cli:uid-${process.getuid?.() ?? 'unknown'}`;
  }
}
