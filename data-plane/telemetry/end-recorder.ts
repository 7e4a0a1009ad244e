import type { DatabaseSync } from 'node:sqlite';
import type { NewEvent } from '../../shared/events/envelope.ts';
import type { Logger } from '../../shared/log/logger.ts';
import type { Spool } from './spool.ts';

/** Ours: how soon what the spool has refused is offered again, milliseconds. */
const RETRY_MS = 1_000;

interface End {
  readonly events: readonly NewEvent[];
  readonly save: (db: DatabaseSync) => void;
  /** Called once it is on disk. */
  readonly recorded: () => void;
}

export interface EndRecorderOptions {
  readonly spool: Pick<Spool, 'append'>;
  readonly log: Logger;
  readonly retryMs?: number;
}

/**
 * Appends the ends of connections to the spool, in order. What the disk refuses is kept and offered again: its totals are
 * nowhere else, and until it is recorded the log says that the addresses are held.
 */
export class EndRecorder {
  readonly #options: EndRecorderOptions;
  #waiting: End[] = [];
  #timer: NodeJS.Timeout | undefined;
  #settling: Promise<void> | undefined;

  constructor(options: EndRecorderOptions) {
    this.#options = options;
  }

  /** Ends that the spool has not taken yet. No more than there were connections: nobody is let in meanwhile. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Resolves when the end is recorded, or kept for later. */
  async record(
    events: readonly NewEvent[],
    save: (db: DatabaseSync) => void,
    recorded: () => void = () => {},
  ): Promise<void> {
    const end: End = { events, save, recorded };
    if (this.#waiting.length > 0) {
      this.#waiting.push(end);
      return;
    }
    try {
      await this.#options.spool.append(events, save);
    } catch (error) {
      if (this.#waiting.length === 0) this.#options.log.error({ err: error }, 'ends cannot be recorded, trying again');
      this.#waiting.push(end);
      this.#timer ??= setInterval(() => void this.settle(), this.#options.retryMs ?? RETRY_MS).unref();
      return;
    }
    recorded();
  }

  /** Offers once more what waits. Resolves when all is recorded or the spool has refused again. */
  settle(): Promise<void> {
    this.#settling ??= this.#settle().finally(() => {
      this.#settling = undefined;
    });
    return this.#settling;
  }

  async #settle(): Promise<void> {
    try {
      for (let end = this.#waiting[0]; end !== undefined; end = this.#waiting[0]) {
        await this.#options.spool.append(end.events, end.save);
        this.#waiting.shift();
        end.recorded();
      }
    } catch {
      return;
    }
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#options.log.info('the ends that waited are recorded');
  }
}
