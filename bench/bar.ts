/** A figure that a benchmark has to reach. */
export interface Bar {
  readonly name: string;
  readonly limit: { readonly atLeast: number } | { readonly below: number };
  /** Undefined when it was not measured. */
  readonly actual: number | undefined;
  readonly unit: string;
}

export interface JudgedBar {
  readonly name: string;
  readonly required: string;
  readonly actual: number | null;
  readonly verdict: 'met' | 'MISSED' | 'not measured';
}

const DIGITS = 3;

export function judgeBar({ name, limit, actual, unit }: Bar): JudgedBar {
  const [word, figure] = 'atLeast' in limit ? ['at least', limit.atLeast] : ['below', limit.below];
  const met = actual !== undefined && ('atLeast' in limit ? actual >= limit.atLeast : actual < limit.below);
  return {
    name,
    required: `${word} ${Number(figure.toFixed(DIGITS))}${unit === '' ? '' : ` ${unit}`}`,
    actual: actual === undefined ? null : Number(actual.toFixed(DIGITS)),
    verdict: actual === undefined ? 'not measured' : met ? 'met' : 'MISSED',
  };
}

/** Whether none is missed; one that was not measured is not. */
export function areMet(bars: readonly JudgedBar[]): boolean {
  return bars.every(({ verdict }) => verdict !== 'MISSED');
}
