import type { Progress } from '../rebuild/progress.ts';

const BAR_WIDTH = 24;
const SECONDS_PER_MINUTE = 60;
const MINUTES_PER_HOUR = 60;

/** What is being done, in one line; `seconds` since the phase began. */
export function progressLine(progress: Progress, seconds: number): string {
  switch (progress.phase) {
    case 'copy':
      return 'making the tables';
    case 'replay': {
      const { position, from, through, records } = progress;
      const done = through > from ? (position - from) / (through - from) : 1;
      const left = done > 0 ? (seconds / done) * (1 - done) : undefined;
      const rate = seconds > 0 ? `, ${count(records / seconds)} records/s` : '';
      const remaining = left === undefined ? '' : `, ${duration(left)} left`;
      return `${bar(done)} ${count(position)} of ${count(through)} events${rate}${remaining}`;
    }
    case 'index':
      return `${bar(progress.done / progress.tables)} making indexes: ${progress.done} of ${progress.tables} tables`;
    case 'switch':
      return 'waiting to put the new tables in place';
    case 'compare':
      return `${bar(progress.done / progress.tables)} comparing: ${progress.done} of ${progress.tables} tables and checks`;
    case 'drop':
      return 'dropping the former tables';
    default:
      return progress satisfies never;
  }
}

function bar(part: number): string {
  const full = Math.floor(part * BAR_WIDTH);
  return `[${'#'.repeat(full)}${'-'.repeat(BAR_WIDTH - full)}] ${String(Math.floor(part * 100)).padStart(3)} %`;
}

export function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

export function duration(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < SECONDS_PER_MINUTE) return `${whole} s`;
  const minutes = Math.floor(whole / SECONDS_PER_MINUTE);
  if (minutes < MINUTES_PER_HOUR) return `${minutes} min ${whole % SECONDS_PER_MINUTE} s`;
  return `${Math.floor(minutes / MINUTES_PER_HOUR)} h ${minutes % MINUTES_PER_HOUR} min`;
}
