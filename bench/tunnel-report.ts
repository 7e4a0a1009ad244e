import { textTable } from '../deploy/local/text-table.ts';
import { areMet, type JudgedBar } from './bar.ts';
import { PATH_NAMES } from './path-names.ts';
import { judgeTunnel, throughputRatios } from './tunnel-bars.ts';
import { CPU_COSTS, type Figure, type FiguresByPath, medianFigures, RATES, ROUND_TRIPS } from './tunnel-figures.ts';

export interface TunnelReport {
  readonly ok: boolean;
  readonly benchmark: 'tunnel';
  readonly seconds: number;
  readonly rounds: number;
  readonly medians: FiguresByPath;
  readonly ratios: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly bars: readonly JudgedBar[];
}

const DIGITS = 3;

/** Throws RangeError when there is no round. */
export function reportTunnel(seconds: number, rounds: readonly FiguresByPath[]): TunnelReport {
  if (rounds.length === 0) throw new RangeError('no round was measured');
  const medians = medianFigures(rounds);
  const bars = judgeTunnel(medians);
  return {
    ok: areMet(bars),
    benchmark: 'tunnel',
    seconds,
    rounds: rounds.length,
    medians: rounded(medians),
    ratios: rounded(throughputRatios(medians)),
    bars,
  };
}

export function renderTunnel({ medians, ratios, bars, rounds }: TunnelReport): string {
  const rows = (figures: readonly Figure[], digits: number) =>
    PATH_NAMES.filter((path) => medians[path] !== undefined).map((path) => ({
      path,
      ...Object.fromEntries(figures.map((figure) => [figure, medians[path]?.[figure]?.toFixed(digits)])),
    }));
  const ratioRows = Object.entries(ratios).map(([of, row]) => ({
    ratio: of,
    ...Object.fromEntries(RATES.map((figure) => [figure, row[figure]])),
  }));
  return [
    `Mbit/s (medians of ${rounds}); UDP: the highest rate with under 0.5 % loss`,
    textTable(rows(RATES, 0)),
    'ratios of these',
    textTable(ratioRows),
    'round trips, ms; under load: with one TCP stream',
    textTable(rows(ROUND_TRIPS, 2)),
    'seconds of CPU a gigabyte, one TCP stream',
    textTable(rows(CPU_COSTS, 2)),
    'bars',
    textTable(bars),
  ].join('\n\n');
}

function rounded<T extends Readonly<Record<string, Readonly<Partial<Record<string, number>>>>>>(table: T): T {
  const round = (row: Readonly<Partial<Record<string, number>>>) =>
    Object.fromEntries(Object.entries(row).map(([key, value]) => [key, Number(value?.toFixed(DIGITS))]));
  return Object.fromEntries(Object.entries(table).map(([key, row]) => [key, round(row)])) as T;
}
