/** Runs work on each key one after the other, in the order of the calls; on different keys at once. */
export class InTurn {
  readonly #last = new Map<string, Promise<void>>();

  /** Settles as `work` does, which begins when all that was given before for this key has settled. */
  run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const result = (this.#last.get(key) ?? Promise.resolve()).then(work);
    const settled = result.then(
      () => undefined,
      () => undefined,
    );
    this.#last.set(key, settled);
    void settled.then(() => {
      if (this.#last.get(key) === settled) this.#last.delete(key);
    });
    return result;
  }

  /** Whether something runs on the key or waits for it. */
  isBusy(key: string): boolean {
    return this.#last.has(key);
  }
}
