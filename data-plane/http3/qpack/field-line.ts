/** A field name and its value, one character per byte (ISO 8859-1). */
export type FieldLine = readonly [name: string, value: string];

/** What a field line counts beyond its name and value (RFC 9114 4.2.2). */
const FIELD_LINE_OVERHEAD_BYTES = 32;

/** The size of a field line as SETTINGS_MAX_FIELD_SECTION_SIZE counts it, in bytes. */
export function fieldLineSize(name: string, value: string): number {
  return name.length + value.length + FIELD_LINE_OVERHEAD_BYTES;
}

/** The size of a field section as SETTINGS_MAX_FIELD_SECTION_SIZE counts it, in bytes. */
export function fieldSectionSize(lines: readonly FieldLine[]): number {
  return lines.reduce((size, [name, value]) => size + fieldLineSize(name, value), 0);
}
