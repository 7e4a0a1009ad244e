import { textTable } from '../../deploy/local/text-table.ts';
import { areMet, type JudgedBar, judgeBar } from '../bar.ts';
import { median } from '../statistics.ts';

/** What one question took, in milliseconds, from sending it until its last row was here. */
export interface QuestionFigures {
  readonly name: string;
  readonly sql: string;
  readonly keys: number;
  /** Of each key: rows of the answer, the first time, and the median of all times. */
  readonly rows: readonly number[];
  readonly first: readonly number[];
  readonly medians: readonly number[];
  /** The key of the worst median, and how Postgres went about it where that was too slow. */
  readonly slowest: readonly string[];
  readonly explained: string | null;
}

export interface AuditFigures {
  readonly connections: number;
  readonly traffic: number;
  /** Null when the data was there already. */
  readonly fillSeconds: number | null;
  readonly bytes: number;
  readonly figures: readonly QuestionFigures[];
}

export interface AuditReport {
  readonly ok: boolean;
  readonly benchmark: 'audit';
  readonly connections: number;
  readonly traffic: number;
  readonly fillSeconds: number | null;
  readonly gigabytes: number;
  readonly questions: readonly {
    readonly name: string;
    readonly keys: number;
    readonly mostRows: number;
    readonly worstFirstMs: number;
    readonly medianMs: number;
    readonly worstMedianMs: number;
    readonly slowestKey: readonly string[];
    readonly plan: string | null;
  }[];
  readonly bars: readonly JudgedBar[];
}

/** The bar: the worst of the keys' medians. */
export const LIMIT_MS = 100;
const DIGITS = 2;

export function reportAudit({ connections, traffic, fillSeconds, bytes, figures }: AuditFigures): AuditReport {
  const round = (value: number) => Number(value.toFixed(DIGITS));
  const bars = figures.map(({ name, medians }) =>
    judgeBar({ name, limit: { below: LIMIT_MS }, actual: Math.max(...medians), unit: 'ms' }),
  );
  return {
    ok: areMet(bars),
    benchmark: 'audit',
    connections,
    traffic,
    fillSeconds: fillSeconds === null ? null : Math.round(fillSeconds),
    gigabytes: round(bytes / 1e9),
    questions: figures.map(({ name, keys, rows, first, medians, slowest, explained }) => ({
      name,
      keys,
      mostRows: Math.max(...rows),
      worstFirstMs: round(Math.max(...first)),
      medianMs: round(median(medians) ?? 0),
      worstMedianMs: round(Math.max(...medians)),
      slowestKey: slowest,
      plan: explained,
    })),
    bars,
  };
}

export function renderAudit(report: AuditReport): string {
  const { connections, traffic, gigabytes, fillSeconds, questions, bars } = report;
  const rows = questions.map((question, i) => ({
    question: question.name,
    keys: question.keys,
    'most rows': question.mostRows,
    'first, worst': question.worstFirstMs,
    median: question.medianMs,
    'median, worst': question.worstMedianMs,
    bar: bars[i]?.verdict,
  }));
  const filled = fillSeconds === null ? 'filled before' : `filled in ${fillSeconds} s`;
  const plans = questions
    .filter(({ plan }) => plan !== null)
    .map(({ name, slowestKey, plan }) => `\n${name} (${slowestKey.join(', ')})\n${plan}`);
  return [
    `${connections} connections, ${traffic} rows of traffic, ${gigabytes} GB, ${filled}; milliseconds until the last row is here`,
    '',
    textTable(rows),
    ...plans,
  ].join('\n');
}
