import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../../..');
const TIMEOUT_MS = 30_000;

export const CONTROL_PLANE = join(ROOT, 'control-plane/main.ts');
export const NODE = join(ROOT, 'data-plane/main.ts');
export const CLIENT = join(ROOT, 'data-plane/client/main.ts');

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a main file until it ends by itself, with nothing in its environment but `env`. `prefix` is a command that runs it, e.g.
 * `unshare` with its options.
 */
export function runMain(
  file: string,
  env: Readonly<Record<string, string>>,
  args: readonly string[] = [],
  prefix: readonly string[] = [],
): Outcome {
  const [command = '', ...rest] = [...prefix, process.execPath, file, ...args];
  const { status, stdout, stderr } = spawnSync(command, rest, {
    env: { PATH: process.env.PATH ?? '', ...env },
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
  });
  return { status, stdout, stderr };
}
