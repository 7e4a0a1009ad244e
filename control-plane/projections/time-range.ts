// Half-open ranges of time, [from, until), in milliseconds since 1970; `until` null is open.

export interface TimeRange {
  readonly from: number;
  readonly until: number | null;
}

/** An end that leaves the range at least a millisecond: an empty range would say nothing and hide its begin. */
export function clampEnd(from: number, until: number): number {
  return Math.max(until, from + 1);
}

export function rangesOverlap(a: TimeRange, b: TimeRange): boolean {
  return (b.until === null || a.from < b.until) && (a.until === null || b.from < a.until);
}

/** The text of a tstzrange. */
export function formatRange(from: number, until: number | null): string {
  return `[${new Date(from).toISOString()},${until === null ? '' : new Date(until).toISOString()})`;
}
