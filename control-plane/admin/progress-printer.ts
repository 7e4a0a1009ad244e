import type { Progress } from '../rebuild/progress.ts';
import { progressLine } from './progress-line.ts';

/** How often the line of a terminal changes, and how often others get one (ours). */
const TERMINAL_INTERVAL_MS = 100;
const LINE_INTERVAL_MS = 5_000;
/** Carriage return, and what erases the rest of the line. */
const LINE_START = '\r\u001b[K';

export interface ProgressOutput {
  readonly isTTY?: boolean | undefined;
  write(text: string): unknown;
}

/** Shows progress: one line that changes on a terminal, a line every few seconds elsewhere. */
export class ProgressPrinter {
  private readonly output: ProgressOutput;
  private phase: Progress['phase'] | undefined;
  private phaseBegan = 0;
  private printedAt = Number.NEGATIVE_INFINITY;
  /** What was not shown because the line before is too new. */
  private pending: string | undefined;

  constructor(output: ProgressOutput) {
    this.output = output;
  }

  show(progress: Progress, now = performance.now()): void {
    const isNew = progress.phase !== this.phase;
    if (isNew) {
      this.flush();
      this.phase = progress.phase;
      this.phaseBegan = now;
    }
    this.pending = progressLine(progress, (now - this.phaseBegan) / 1_000);
    const interval = this.output.isTTY ? TERMINAL_INTERVAL_MS : LINE_INTERVAL_MS;
    if (!isNew && now - this.printedAt < interval) return;
    this.printedAt = now;
    this.flush();
  }

  /** Leaves the line to what comes next. */
  end(): void {
    this.flush();
    if (this.output.isTTY && this.phase !== undefined) this.output.write(LINE_START);
  }

  /** How a phase ended is always shown. */
  private flush(): void {
    if (this.pending === undefined) return;
    this.output.write(this.output.isTTY ? `${LINE_START}${this.pending}` : `${this.pending}\n`);
    this.pending = undefined;
  }
}
