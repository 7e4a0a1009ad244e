import { onOneLine } from '../../shared/describe-value.ts';

type Row = Readonly<Record<string, unknown>>;

/** Something that is not as it should be. */
export type Difference =
  /** A row of a live table and what the log makes of it; null: there is none. */
  | {
      readonly type: 'row';
      readonly table: string;
      readonly key: Row;
      readonly live: Row | null;
      readonly rebuilt: Row | null;
    }
  /** Two live tables that contradict each other. */
  | { readonly type: 'contradiction'; readonly check: string; readonly key: Row; readonly detail: string };

/** One line for people. */
export function describeDifference(difference: Difference): string {
  const key = Object.entries(difference.key)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name} ${text(value)}`)
    .join(', ');
  switch (difference.type) {
    case 'contradiction':
      return `${difference.check}: ${key}: ${onOneLine(difference.detail)}`;
    case 'row': {
      const { table, live, rebuilt } = difference;
      if (live === null) return `${table}: ${key}: the live table lacks it: ${JSON.stringify(rebuilt)}`;
      if (rebuilt === null) return `${table}: ${key}: does not follow from the log: ${JSON.stringify(live)}`;
      const changed = Object.keys(live).filter((name) => text(live[name]) !== text(rebuilt[name]));
      const each = changed.map((name) => `${name} is ${text(live[name])}, rebuilt ${text(rebuilt[name])}`);
      return `${table}: ${key}: ${each.join('; ')}`;
    }
    default:
      return difference satisfies never;
  }
}

function text(value: unknown): string {
  return onOneLine(typeof value === 'string' ? value : JSON.stringify(value));
}
