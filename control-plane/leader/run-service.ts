import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '../../shared/log/logger.ts';
import type { Term } from '../storage/term.ts';
import type { LeaderService } from './leader-service.ts';

/** Pauses before a service that failed starts again (ours): doubled each time, short again once it ran for a while. */
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;
const STEADY_AFTER_MS = 30_000;

/** Runs a service until the term ends, starting it again whenever it fails. Never rejects. */
export async function runService(service: LeaderService, term: Term, log: Logger): Promise<void> {
  let pauseMs = FIRST_PAUSE_MS;
  while (!term.signal.aborted) {
    const startedAt = performance.now();
    try {
      await service.run(term);
      if (term.signal.aborted) return;
      log.warn({ service: service.name }, 'a service ended before its term, starting it again');
    } catch (error) {
      if (term.signal.aborted) return;
      log.error({ err: error, service: service.name }, 'a service failed, starting it again');
    }
    if (performance.now() - startedAt > STEADY_AFTER_MS) pauseMs = FIRST_PAUSE_MS;
    await delay(pauseMs, undefined, { signal: term.signal }).catch(() => undefined);
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
  }
}
