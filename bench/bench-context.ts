/** What every part of a benchmark works with. */
export interface BenchContext {
  /** Logs and data, gone when the benchmark ends; of one that went wrong the files `*.log` stay. */
  readonly directory: string;
  /** Aborts when someone wants the benchmark to end. */
  readonly signal: AbortSignal;
  readonly progress: (line: string) => void;
  /** Runs `end` when the benchmark ends, last come first. */
  readonly atEnd: (end: () => Promise<unknown>) => void;
}
