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

  constructor(output: ProgressOutput) {
    this.output = output;
  }

  show(progress: Progress, now = performance.now()): void {
    const isNew = progress.phase !== this.phase;
    if (isNew) {
      this.phase = progress.phase;
      this.phaseBegan = now;
    }
    const interval = this.output.isTTY ? TERMINAL_INTERVAL_MS : LINE_INTERVAL_MS;
    if (!isNew && now - this.printedAt < interval) return;
    this.printedAt = now;
    const line = progressLine(progress, (now - this.phaseBegan) / 1_000);
    this.output.write(this.output.isTTY ? `${LINE_START}${line}` : `${line}\n`);
  }

  /** Leaves the line to what comes next. */
  end(): void {
    if (this.output.isTTY && this.phase !== undefined) this.output.write(LINE_START);
  }
}
