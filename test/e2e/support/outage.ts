import { setTimeout as delay } from 'node:timers/promises';

/** Begins the time of an outage; what is done in between counts. The result waits until it has lasted `seconds`. */
export function beginOutage(): { untilItLasted(seconds: number): Promise<void> } {
  const startedAt = performance.now();
  return {
    untilItLasted: (seconds) => delay(Math.max(0, startedAt + seconds * 1_000 - performance.now())),
  };
}

/** Runs an action and returns how many seconds it took. */
export async function secondsOf(action: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await action();
  return Math.round((performance.now() - startedAt) / 100) / 10;
}
