import { execFile } from 'node:child_process';
import { completePath } from './find-program.ts';

/** Runs `ip` with these arguments and returns what it prints. Throws with what it says when it fails. */
export function ip(...args: string[]): Promise<string> {
  return run(args, '');
}

/** Runs lines of `ip` commands in one go, in a namespace or in the root; stops at the first that fails. */
export async function ipBatch(namespace: string | undefined, lines: readonly string[]): Promise<void> {
  await run([...(namespace === undefined ? [] : ['-n', namespace]), '-batch', '-'], `${lines.join('\n')}\n`);
}

/** The same for cleaning up: goes on behind a line that fails, because what it removes may be gone already. */
export async function ipBatchLenient(lines: readonly string[]): Promise<void> {
  await run(['-force', '-batch', '-'], `${lines.join('\n')}\n`).catch(() => undefined);
}

function run(args: readonly string[], input: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile('ip', args, { env: { ...process.env, PATH: completePath() } }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else
        reject(new Error(`ip ${args.join(' ')}: ${stderr.trim() || error.message}\n${input}`.trim(), { cause: error }));
    });
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}
