import { textTable } from '../../deploy/local/text-table.ts';
import { areMet, type JudgedBar, judgeBar } from '../bar.ts';

export interface RebuildFigures {
  readonly events: number;
  readonly records: number;
  /** Of the whole rebuild. */
  readonly seconds: number;
  /** Without indexes and switch. */
  readonly replaySeconds: number;
  /** How long the live projection would have waited. */
  readonly switchSeconds: number;
  readonly verifySeconds: number;
  readonly differences: number;
}

export interface RebuildBenchReport extends RebuildFigures {
  readonly ok: boolean;
  readonly benchmark: 'rebuild';
  readonly recordsPerSecond: number;
  readonly bars: readonly JudgedBar[];
}

const MIN_RECORDS_PER_SECOND = 40_000;

export function reportRebuild(figures: RebuildFigures): RebuildBenchReport {
  const recordsPerSecond = figures.records / figures.seconds;
  const bars = [
    judgeBar({
      name: 'rebuild, with indexes and switch',
      limit: { atLeast: MIN_RECORDS_PER_SECOND },
      actual: recordsPerSecond,
      unit: 'records/s',
    }),
    judgeBar({ name: 'differences', limit: { below: 1 }, actual: figures.differences, unit: '' }),
  ];
  return {
    ...figures,
    ok: areMet(bars),
    benchmark: 'rebuild',
    recordsPerSecond,
    bars,
  };
}

export function renderRebuild(report: RebuildBenchReport): string {
  const rows = [
    { figure: 'records projected', value: String(report.records), unit: `in ${report.events} events` },
    { figure: 'replay', value: report.replaySeconds.toFixed(1), unit: 's' },
    { figure: 'the live projection waits', value: report.switchSeconds.toFixed(2), unit: 's' },
    { figure: 'whole rebuild', value: report.seconds.toFixed(1), unit: 's' },
    { figure: 'verify', value: report.verifySeconds.toFixed(1), unit: 's' },
  ];
  return [textTable(rows), 'bars', textTable(report.bars)].join('\n\n');
}
