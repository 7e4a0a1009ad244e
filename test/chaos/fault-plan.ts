import { Random } from './random.ts';

export interface FaultKind {
  readonly name: string;
  /** What it takes hold of: two faults on one thing do not overlap. */
  readonly on: string;
  /** How long it is held, at least and at most. */
  readonly holdMs: readonly [min: number, max: number];
}

export interface PlannedFault<K extends FaultKind = FaultKind> {
  readonly kind: K;
  /** After the begin of the run. */
  readonly atMs: number;
  readonly holdMs: number;
  /** At least 0, below 1: which of several targets. */
  readonly pick: number;
}

/** Ours: between two faults, so that there are several at once. */
const MIN_PAUSE_MS = 300;
const MAX_PAUSE_MS = 1_700;

/**
 * The faults of a run, in order, by the seed alone. All kinds come before one comes again, so that a short run has most of them. All
 * have ended when the run ends.
 */
export function planFaults<K extends FaultKind>(kinds: readonly K[], seed: number, seconds: number): PlannedFault<K>[] {
  const random = new Random(seed);
  const planned: PlannedFault<K>[] = [];
  const busyUntil = new Map<string, number>();
  let deck: K[] = [];
  for (let atMs = random.between(0, MAX_PAUSE_MS); ; atMs += random.between(MIN_PAUSE_MS, MAX_PAUSE_MS)) {
    const leftMs = seconds * 1_000 - atMs;
    if (leftMs < MIN_PAUSE_MS) return planned;
    if (deck.length === 0) deck = random.shuffled(kinds);
    const index = deck.findIndex(({ on, holdMs }) => (busyUntil.get(on) ?? 0) <= atMs && holdMs[0] <= leftMs);
    const [kind] = index < 0 ? [] : deck.splice(index, 1);
    if (kind === undefined) continue;
    const holdMs = Math.min(leftMs, random.between(...kind.holdMs));
    busyUntil.set(kind.on, atMs + holdMs);
    planned.push({ kind, atMs: Math.round(atMs), holdMs: Math.round(holdMs), pick: random.next() });
  }
}
