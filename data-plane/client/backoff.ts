/** First wait and longest wait between attempts to connect. */
const FIRST_MS = 250;
const LONGEST_MS = 5_000;

/** Waits that double up to a limit, with jitter so that clients of a node that died do not come back all at once. */
export class Backoff {
  #nextMs = FIRST_MS;

  /** The next wait: between half of it and all of it, by `random` in [0, 1). */
  next(random: number): number {
    const waitMs = this.#nextMs * (0.5 + random / 2);
    this.#nextMs = Math.min(this.#nextMs * 2, LONGEST_MS);
    return waitMs;
  }

  reset(): void {
    this.#nextMs = FIRST_MS;
  }
}
