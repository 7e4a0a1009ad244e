import type { PathName } from './path-names.ts';
import { median } from './statistics.ts';

/** Mbit/s at the receiver; up is from the client to the server. */
export const RATES = ['tcp1Up', 'tcp1Down', 'tcp8Up', 'tcp8Down', 'udpUp', 'udpDown'] as const;
/** Milliseconds; cold is idle without the warm-up; under load means while one TCP stream runs, up and then down. */
export const ROUND_TRIPS = ['coldP50Ms', 'idleP50Ms', 'idleP99Ms', 'loadP50Ms', 'loadP99Ms'] as const;
/** Seconds of CPU of the tunnel's process at one end for each 10^9 bytes that arrived by one TCP stream. */
export const CPU_COSTS = ['cpuUpClient', 'cpuUpServer', 'cpuDownClient', 'cpuDownServer'] as const;

export type Figure = (typeof RATES)[number] | (typeof ROUND_TRIPS)[number] | (typeof CPU_COSTS)[number];
export const FIGURES: readonly Figure[] = [...RATES, ...ROUND_TRIPS, ...CPU_COSTS];

/** What one path did; a figure that it does not have, or that was not measured, is missing. */
export type Figures = Partial<Record<Figure, number>>;
export type FiguresByPath = Partial<Record<PathName, Figures>>;

/** The median of each path's figures over all rounds. */
export function medianFigures(rounds: readonly FiguresByPath[]): FiguresByPath {
  const medians: Partial<Record<PathName, Figures>> = {};
  for (const path of new Set(rounds.flatMap((round) => Object.keys(round) as PathName[]))) {
    const figures: Figures = {};
    for (const figure of FIGURES) {
      const values = rounds.map((round) => round[path]?.[figure]).filter((value) => value !== undefined);
      const middle = median(values);
      if (middle !== undefined) figures[figure] = middle;
    }
    medians[path] = figures;
  }
  return medians;
}

/** How many times `of` is what `over` is; undefined when one of them was not measured. */
export function ratio(medians: FiguresByPath, figure: Figure, of: PathName, over: PathName): number | undefined {
  const [numerator, denominator] = [medians[of]?.[figure], medians[over]?.[figure]];
  return numerator === undefined || denominator === undefined ? undefined : numerator / denominator;
}
