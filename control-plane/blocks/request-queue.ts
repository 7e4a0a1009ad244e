interface Waiting<T> {
  readonly request: T;
  readonly arrivedAt: number;
}

/**
 * Requests that wait for an answer, the newest first: whoever waits the longest is about to give up and ask again, so when there are
 * more than can be answered in time, some still are. In the order of arrival none would be. Pure: time comes with the calls.
 */
export class RequestQueue<T> {
  readonly #waiting: Waiting<T>[] = [];
  readonly #patienceMs: number;

  /** Nobody waits for an answer longer than that. */
  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs;
  }

  add(request: T, now: number): void {
    this.#waiting.push({ request, arrivedAt: now });
  }

  /** At most so many of those that are still waited for, the newest first. */
  take(limit: number, now: number): T[] {
    const alive = this.#waiting.findIndex(({ arrivedAt }) => now - arrivedAt < this.#patienceMs);
    this.#waiting.splice(0, alive < 0 ? this.#waiting.length : alive);
    return this.#waiting
      .splice(-limit)
      .map(({ request }) => request)
      .reverse();
  }
}
