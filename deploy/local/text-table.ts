/** Rows as aligned columns under their names; null and undefined are shown as "-". */
export function textTable(rows: readonly object[], indent = '  '): string {
  const [first] = rows;
  if (first === undefined) return `${indent}(no rows)`;
  const names = Object.keys(first);
  const cells = rows.map((row) => names.map((name) => formatCell((row as Record<string, unknown>)[name])));
  const widths = names.map((name, i) => Math.max(name.length, ...cells.map((row) => (row[i] as string).length)));
  const line = (row: readonly string[]) =>
    `${indent}${row.map((cell, i) => cell.padEnd(widths[i] as number)).join('  ')}`.trimEnd();
  return [line(names), line(widths.map((width) => '-'.repeat(width))), ...cells.map(line)].join('\n');
}

function formatCell(value: unknown): string {
  if (value === null || value === undefined) return '-';
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return value.map(formatCell).join(' ');
  if (typeof value === 'number' && !Number.isInteger(value)) return value.toFixed(2);
  return String(value);
}
