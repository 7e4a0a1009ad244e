import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { startProcess } from '../deploy/local/child-process.ts';
import type { BenchContext } from './bench-context.ts';

/**
 * Runs a command to its end and returns what it printed, whatever its exit code. It is killed when the benchmark ends,
 * or after `timeoutMs`, which is an error.
 */
export async function runTool(
  { directory, signal }: BenchContext,
  [command, args]: readonly [string, readonly string[]],
  timeoutMs: number,
): Promise<string> {
  signal.throwIfAborted();
  const name = [command, ...args].join(' ');
  const logFile = join(directory, 'tools', randomUUID());
  const process = await startProcess({ name, command, args, logFile });
  const late = AbortSignal.timeout(timeoutMs);
  const settled = new AbortController();
  const aborted = once(AbortSignal.any([signal, late]), 'abort', { signal: settled.signal }).catch(() => undefined);
  try {
    await Promise.race([process.ended(), aborted]);
    signal.throwIfAborted();
    if (late.aborted) throw new Error(`${name}: still running after ${timeoutMs} ms`);
    return readFileSync(logFile, 'utf8');
  } finally {
    settled.abort();
    await process.kill();
    rmSync(logFile, { force: true });
  }
}
