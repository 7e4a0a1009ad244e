import { errorCode } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log/logger.ts';
import { type ConnectionFailure, FailureFolding } from './failure-folding.ts';
import type { Spool } from './spool.ts';

const FLUSH_MS = 1_000;

/** Appends `connection.failed` events to the spool, folded; what the spool refuses is counted and offered again. */
export class FailureReporter {
  readonly #folding = new FailureFolding();
  readonly #spool: Spool;
  readonly #log: Logger;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: { readonly spool: Spool; readonly log: Logger }) {
    this.#spool = options.spool;
    this.#log = options.log;
  }

  start(): void {
    this.#timer ??= setInterval(() => this.#flush(), FLUSH_MS);
  }

  report(failure: ConnectionFailure): void {
    const event = this.#folding.record(failure, performance.now(), new Date());
    if (event !== undefined) void this.#append([event]);
  }

  /** Appends what is folded. Call it before the last events of the process. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#flush();
  }

  #flush(): Promise<void> {
    const events = this.#folding.flush(performance.now(), new Date());
    return events.length === 0 ? Promise.resolve() : this.#append(events);
  }

  async #append(events: ReturnType<FailureFolding['flush']>): Promise<void> {
    try {
      await this.#spool.append(events);
    } catch (error) {
      for (const event of events) this.#folding.putBack(event);
      if (errorCode(error) !== 'SPOOL_FULL') this.#log.error({ err: error }, 'a failed connection cannot be recorded');
    }
  }
}
