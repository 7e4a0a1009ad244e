import type { Administrator } from '../log/append-admin-event.ts';
import type { OnProgress } from '../rebuild/progress.ts';
import type { Database } from '../storage/database.ts';

/** What every command works with. */
export interface CommandContext {
  readonly database: Database;
  /** Who runs it, for the log. */
  readonly by: Administrator;
  readonly onProgress: OnProgress;
  /** Writes a line of the result that need not wait for the rest. */
  readonly print: (line: string) => void;
  /** Aborts when someone wants the command to end. */
  readonly signal: AbortSignal;
}

export interface CommandResult {
  /** False: exit code 1. */
  readonly ok: boolean;
  readonly text: string;
  readonly json: Readonly<Record<string, unknown>>;
}
