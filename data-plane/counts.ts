/** Adds up counts of the same things; `none` has them all at 0. */
export function sumOfCounts<K extends string>(
  none: Readonly<Record<K, number>>,
  all: readonly Readonly<Record<K, number>>[],
): Record<K, number> {
  const sums: Record<K, number> = { ...none };
  for (const counts of all) for (const key in sums) sums[key] += counts[key];
  return sums;
}
