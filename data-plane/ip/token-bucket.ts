/** Allows `ratePerSecond` on average and `burst` at once. Time comes from the caller, in ms of any monotonic clock. */
export class TokenBucket {
  readonly #ratePerMs: number;
  readonly #burst: number;
  #tokens: number;
  #updatedMs = Number.NEGATIVE_INFINITY;

  constructor(options: { readonly ratePerSecond: number; readonly burst: number }) {
    this.#ratePerMs = options.ratePerSecond / 1000;
    this.#burst = options.burst;
    this.#tokens = options.burst;
  }

  /** Takes one token; false when there is none. A clock that steps back adds nothing. */
  take(nowMs: number): boolean {
    if (nowMs > this.#updatedMs) {
      this.#tokens = Math.min(this.#burst, this.#tokens + (nowMs - this.#updatedMs) * this.#ratePerMs);
      this.#updatedMs = nowMs;
    }
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
