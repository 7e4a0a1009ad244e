import { setTimeout as delay } from 'node:timers/promises';
import { describeError } from '../../shared/errors.ts';

const DEFAULT_INTERVAL_MS = 50;

export interface WaitOptions {
  readonly timeoutMs: number;
  /** Pause between two probes; 50 ms when not given. */
  readonly intervalMs?: number;
  /** What is awaited, in words that fit behind "waiting for". */
  readonly what: string;
}

export type Truthy<T> = Exclude<T, false | null | undefined | 0 | ''>;

/**
 * Probes until the answer is truthy and returns it. A probe that throws counts as "not yet".
 * After `timeoutMs` it throws, naming `what` and the last answer or error.
 */
export async function waitFor<T>(probe: () => T | Promise<T>, options: WaitOptions): Promise<Truthy<T>> {
  const deadline = performance.now() + options.timeoutMs;
  let last: string;
  let cause: unknown;
  for (;;) {
    try {
      const value = await probe();
      if (value) return value as Truthy<T>;
      last = `last value ${JSON.stringify(value) ?? 'undefined'}`;
      cause = undefined;
    } catch (error) {
      if (error instanceof StopWaiting) throw error;
      last = `last error: ${describeError(error)}`;
      cause = error;
    }
    if (performance.now() >= deadline) break;
    await delay(options.intervalMs ?? DEFAULT_INTERVAL_MS);
  }
  throw new Error(`gave up after ${options.timeoutMs} ms waiting for ${options.what} (${last})`, { cause });
}

/** Thrown by a probe that knows that waiting longer cannot help; `waitFor` passes it on at once. */
export class StopWaiting extends Error {
  override readonly name = 'StopWaiting';
}
