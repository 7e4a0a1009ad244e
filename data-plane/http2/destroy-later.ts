interface Destroyable {
  destroy(): unknown;
  once(event: 'close', listener: () => void): unknown;
}

/** Destroys what has not closed by itself in time. */
export function destroyLater(what: Destroyable, timeoutMs: number): void {
  const timer = setTimeout(() => what.destroy(), timeoutMs);
  what.once('close', () => clearTimeout(timer));
}
