interface Timer {
  atMs: number;
  readonly everyMs: number;
  readonly run: (nowMs: number) => void;
}

/** The few periodic timers of a loop that waits in poll(2). Time is `performance.now()`, handed in. */
export class LoopTimers {
  readonly #timers: Timer[] = [];

  every(everyMs: number, nowMs: number, run: (nowMs: number) => void): void {
    this.#timers.push({ atMs: nowMs + everyMs, everyMs, run });
  }

  /** Milliseconds until the next one is due; 0 when one is. */
  untilNextMs(nowMs: number): number {
    let next = Number.POSITIVE_INFINITY;
    for (const timer of this.#timers) next = Math.min(next, timer.atMs);
    return Math.max(0, next - nowMs);
  }

  /** Runs what is due, once. What a busy thread missed is skipped: two traffic windows in a row would say nothing. */
  runDue(nowMs: number): void {
    for (const timer of this.#timers) {
      if (timer.atMs > nowMs) continue;
      const nextMs = timer.atMs + timer.everyMs;
      timer.atMs = nextMs > nowMs ? nextMs : nowMs + timer.everyMs;
      timer.run(nowMs);
    }
  }
}
