/** A number that is counted in units of 10^-digits, as the text of a `numeric`: 1500n with 3 digits is 1.500. `units`: not negative. */
export function decimalOf(units: bigint, digits: number): string {
  const text = String(units).padStart(digits + 1, '0');
  return `${text.slice(0, -digits)}.${text.slice(-digits)}`;
}
