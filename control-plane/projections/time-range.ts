// Half-open ranges of time, [from, until), in milliseconds since 1970; `until` null is open.

/** Ours: by how much clocks of nodes may be wrong for what is looked up by their times, milliseconds. */
export const MAX_CLOCK_SKEW_MS = 5 * 60_000;

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

/** Milliseconds from a moment to the nearest one in the range; 0 inside of it. */
export function distanceTo({ from, until }: TimeRange, at: number): number {
  return Math.max(0, from - at, until === null ? 0 : at - until + 1);
}

/** The text of a tstzrange. */
export function formatRange(from: number, until: number | null): string {
  return `[${new Date(from).toISOString()},${until === null ? '' : new Date(until).toISOString()})`;
}
