import { textTable } from '../../deploy/local/text-table.ts';
import { areMet, type JudgedBar, judgeBar } from '../bar.ts';

export interface IngestFigures {
  /** Records a second that the nodes were to accept. */
  readonly rate: number;
  readonly seconds: number;
  /** Committed while it was measured. */
  readonly events: number;
  readonly records: number;
  /** From the moment that an event happened, just before it is spooled, to the commit; of records. */
  readonly p50LagMs: number;
  readonly p99LagMs: number;
  /** Events that still waited in the spools at the end. */
  readonly waiting: number;
  /** Share of a core, percent. */
  readonly cpu: {
    readonly nodes: number;
    readonly nats: number;
    readonly controlPlane: number;
    readonly postgres: number;
  };
  readonly leaderBytes: number;
  /** The same rows alone, records a second: the median of three. */
  readonly copyCeiling: number;
  readonly unnestCeiling: number;
  /** Undefined where it was not asked for. */
  readonly startEvents?: number | undefined;
  readonly startSeconds?: number | undefined;
}

export interface IngestReport extends IngestFigures {
  readonly ok: boolean;
  readonly benchmark: 'ingest';
  readonly recordsPerSecond: number;
  readonly shareOfUnnest: number;
  readonly bars: readonly JudgedBar[];
}

const MIN_RECORDS_PER_SECOND = 25_000;
const MAX_P99_LAG_SECONDS = 2;
const MIN_SHARE_OF_UNNEST = 0.4;
const MAX_START_SECONDS = 10;

export function reportIngest(figures: IngestFigures): IngestReport {
  const recordsPerSecond = figures.records / figures.seconds;
  const shareOfUnnest = recordsPerSecond / figures.unnestCeiling;
  const bars = [
    judgeBar({
      name: 'records committed',
      limit: { atLeast: MIN_RECORDS_PER_SECOND },
      actual: recordsPerSecond,
      unit: 'records/s',
    }),
    judgeBar({ name: 'p99 lag', limit: { below: MAX_P99_LAG_SECONDS }, actual: figures.p99LagMs / 1_000, unit: 's' }),
    judgeBar({
      name: 'share of the unnest ceiling',
      limit: { atLeast: MIN_SHARE_OF_UNNEST },
      actual: shareOfUnnest,
      unit: '',
    }),
    judgeBar({
      name: 'start on the log',
      limit: { below: MAX_START_SECONDS },
      actual: figures.startSeconds,
      unit: 's',
    }),
  ];
  return { ok: areMet(bars), benchmark: 'ingest', ...figures, recordsPerSecond, shareOfUnnest, bars };
}

export function renderIngest(report: IngestReport): string {
  const { cpu, seconds } = report;
  const rows = [
    { figure: 'records committed', value: report.recordsPerSecond, unit: 'a second' },
    { figure: 'events committed', value: report.events / seconds, unit: 'a second' },
    { figure: 'lag, median', value: report.p50LagMs, unit: 'ms' },
    { figure: 'lag, p99', value: report.p99LagMs, unit: 'ms' },
    { figure: 'events in the spools at the end', value: report.waiting, unit: '' },
    { figure: 'CPU of the nodes', value: cpu.nodes, unit: '% of a core' },
    { figure: 'CPU of NATS', value: cpu.nats, unit: '% of a core' },
    { figure: 'CPU of the control plane', value: cpu.controlPlane, unit: '% of a core' },
    { figure: 'CPU of Postgres', value: cpu.postgres, unit: '% of a core' },
    { figure: 'memory of the control plane', value: report.leaderBytes / 1e6, unit: 'MB' },
    { figure: 'ceiling: COPY of the same rows', value: report.copyCeiling, unit: 'records/s' },
    { figure: 'ceiling: unnest of the same rows', value: report.unnestCeiling, unit: 'records/s' },
  ].map((row) => ({ ...row, value: Math.round(row.value) }));
  return [`${report.rate} records a second for ${seconds} s`, textTable(rows), 'bars', textTable(report.bars)].join(
    '\n\n',
  );
}
