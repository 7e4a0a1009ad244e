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
  /** Of the log on which a control plane was started, and how long that took; undefined where it was not asked for. */
  readonly startEvents?: number | undefined;
  readonly startSeconds?: number | undefined;
}

export interface IngestReport extends IngestFigures {
  readonly ok: boolean;
  readonly benchmark: 'ingest';
  readonly recordsPerSecond: number;
  readonly shareOfUnnest: number;
  readonly bars: readonly JudgedBar[];
  /** Bars of which the result says nothing, by name: they are not met, and not missed. */
  readonly notMeasured: readonly string[];
}

const MIN_RECORDS_PER_SECOND = 25_000;
const MAX_P99_LAG_SECONDS = 2;
const MIN_SHARE_OF_UNNEST = 0.4;
const MAX_START_SECONDS = 10;
/** On fewer a start says nothing. */
const START_EVENTS = 10_000_000;
const START_BAR = 'start on 10 million events';

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
      name: START_BAR,
      limit: { below: MAX_START_SECONDS },
      actual: (figures.startEvents ?? 0) >= START_EVENTS ? figures.startSeconds : undefined,
      unit: 's',
    }),
  ];
  const notMeasured = bars.filter(({ verdict }) => verdict === 'not measured').map(({ name }) => name);
  return { ok: areMet(bars), benchmark: 'ingest', ...figures, recordsPerSecond, shareOfUnnest, bars, notMeasured };
}

export function renderIngest(report: IngestReport): string {
  const { cpu, seconds, startEvents, startSeconds } = report;
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
    ...(startSeconds === undefined
      ? []
      : [{ figure: `start on ${startEvents} events`, value: startSeconds * 1_000, unit: 'ms' }]),
  ].map((row) => ({ ...row, value: Math.round(row.value) }));
  const parts = [`${report.rate} records a second for ${seconds} s`, textTable(rows), 'bars', textTable(report.bars)];
  if (report.notMeasured.includes(START_BAR)) {
    parts.push(`not measured: ${START_BAR}; --log ${START_EVENTS / 1_000} or more would`);
  }
  return parts.join('\n\n');
}
