import { isAlive, type ProcessIdentity, parentOf } from './process-identity.ts';

const PARENT_CHECK_MS = 500;
/** npm, and the shell that it may leave between itself and its script. */
const NPM_GENERATIONS = 2;

/** Why the launcher has to end. */
export class EndRequest extends Error {
  override readonly name = 'EndRequest';
}

/**
 * Aborts when someone wants the launcher to end: SIGINT, SIGTERM, SIGHUP, or the death of the npm that runs it, which a
 * kill -9 of npm alone would otherwise leave unnoticed. A second signal exits at once; the janitor does the rest.
 */
export function endSignals(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(130);
      controller.abort(new EndRequest(name));
    });
  }
  if (process.env.npm_lifecycle_event !== undefined) {
    const ancestors = ancestorsOf(process.pid, NPM_GENERATIONS);
    const timer = setInterval(() => {
      if (ancestors.every(isAlive)) return;
      clearInterval(timer);
      controller.abort(new EndRequest('npm is gone'));
    }, PARENT_CHECK_MS);
    timer.unref();
  }
  return controller.signal;
}

function ancestorsOf(pid: number, generations: number): ProcessIdentity[] {
  const found: ProcessIdentity[] = [];
  for (let child = pid; found.length < generations; ) {
    const parent = parentOf(child);
    if (parent === undefined || parent.pid <= 1) break;
    found.push(parent);
    child = parent.pid;
  }
  return found;
}
