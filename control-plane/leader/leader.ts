import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { CodedError, describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log/logger.ts';
import type { Term } from '../storage/term.ts';
import { LEADERSHIP_FRESH_MS, LeaderLock } from './leader-lock.ts';
import type { LeaderService } from './leader-service.ts';
import { runService } from './run-service.ts';

/** Between attempts to become leader, and between two confirmations (ours). */
const CONFIRM_INTERVAL_MS = 500;
/** A confirmation that takes longer ends the term (ours). */
const CONFIRM_TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 5_000;
/** One line for this many failed attempts to reach Postgres. */
const LOG_EVERY_FAILURES = 20;

export class LeadershipLostError extends CodedError {
  constructor(why: string, options?: { cause?: unknown }) {
    super('LEADERSHIP_LOST', why, options);
  }
}

export interface LeaderOptions {
  readonly databaseUrl: string;
  /** A name for this process, for people who read the table. */
  readonly holder: string;
  /** Of all connections of this process, and of no other's. */
  readonly applicationName: string;
  readonly services: readonly LeaderService[];
  readonly log: Logger;
}

/**
 * Leads while it holds the leaders' lock and confirms that. Every takeover raises the owner epoch, which every write of a term
 * checks, so a leader that does not know yet that it lost the lock cannot write any more.
 */
export class Leader {
  private readonly options: LeaderOptions;
  private term: Term | undefined;
  private confirmedAtMs = Number.NEGATIVE_INFINITY;
  private refusedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: LeaderOptions) {
    this.options = options;
  }

  /** The current term, while this process leads. */
  currentTerm(): Term | undefined {
    return this.term?.signal.aborted ? undefined : this.term;
  }

  /** Whether this process leads and Postgres said so within LEADERSHIP_FRESH_MS. */
  isConfirmed(): boolean {
    return this.currentTerm() !== undefined && performance.now() - this.confirmedAtMs < LEADERSHIP_FRESH_MS;
  }

  /** Whether another process had the lock when this one asked for it within LEADERSHIP_FRESH_MS. */
  isFollowing(): boolean {
    return performance.now() - this.refusedAtMs < LEADERSHIP_FRESH_MS;
  }

  /** Waits for leadership, leads, and does so again after every loss, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      try {
        await this.attempt(signal);
        failures = 0;
      } catch (error) {
        if (signal.aborted) break;
        if (error instanceof LeadershipLostError) {
          failures = 0;
          this.options.log.warn({ err: error }, 'leadership lost');
        } else if (failures++ % LOG_EVERY_FAILURES === 0) {
          this.options.log.warn(`Postgres is not reachable, retrying: ${describeError(error)}`);
        }
      }
      await delay(CONFIRM_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  private async attempt(signal: AbortSignal): Promise<void> {
    const client = new pg.Client({
      connectionString: this.options.databaseUrl,
      application_name: this.options.applicationName,
      keepAlive: true,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      query_timeout: CONFIRM_TIMEOUT_MS,
    });
    const lost = new AbortController();
    const lose = (why: string, cause?: unknown) => lost.abort(new LeadershipLostError(why, { cause }));
    client.on('error', (error) => lose('the connection that holds the lock broke', error));
    client.on('end', () => lose('the connection that holds the lock ended'));
    try {
      await client.connect();
      const lock = new LeaderLock(client, this.options.applicationName);
      while (!signal.aborted) {
        if (await lock.acquire()) {
          this.refusedAtMs = Number.NEGATIVE_INFINITY;
          await this.lead(lock, lost, signal);
          return;
        }
        this.refusedAtMs = performance.now();
        await delay(CONFIRM_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
      }
    } finally {
      // Ending the session is what releases the lock; a broken one has nothing left to release.
      void client.end().catch(() => undefined);
    }
  }

  private async lead(lock: LeaderLock, lost: AbortController, signal: AbortSignal): Promise<void> {
    const { log, holder, services } = this.options;
    const askedAt = performance.now();
    const ownerEpoch = await lock.beginTerm(holder);
    this.confirmedAtMs = askedAt;
    const term: Term = { ownerEpoch, signal: AbortSignal.any([signal, lost.signal]) };
    this.term = term;
    log.info({ ownerEpoch, holder }, 'leading');
    try {
      const running = services.map((service) => runService(service, term, log));
      await this.confirmUntilLost(lock, term, lost);
      await Promise.all(running);
    } finally {
      this.term = undefined;
    }
    if (!signal.aborted) throw lost.signal.reason;
    log.info({ ownerEpoch }, 'leadership given up');
  }

  private async confirmUntilLost(lock: LeaderLock, term: Term, lost: AbortController): Promise<void> {
    while (!term.signal.aborted) {
      await delay(CONFIRM_INTERVAL_MS, undefined, { signal: term.signal }).catch(() => undefined);
      if (term.signal.aborted) return;
      const askedAt = performance.now();
      try {
        if (await lock.confirm(term.ownerEpoch)) this.confirmedAtMs = askedAt;
        else lost.abort(new LeadershipLostError('another process took over'));
      } catch (cause) {
        lost.abort(new LeadershipLostError('leadership could not be confirmed', { cause }));
      }
    }
  }
}
