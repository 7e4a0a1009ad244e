import { setTimeout as delay } from 'node:timers/promises';
import { sql } from 'kysely';
import pg from 'pg';
import { CodedError, describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log/logger.ts';
import type { Database } from '../storage/database.ts';
import { lockProjections } from '../storage/projection-lock.ts';
import type { Term } from '../storage/term.ts';
import type { LeaderService } from './leader-service.ts';
import { runService } from './run-service.ts';

/** Key of the advisory lock that the leader holds ("mvpn" in ASCII). */
const LEADER_LOCK_KEY = 0x6d76706e;
/** Between attempts to become leader, and between two confirmations (ours). */
const CONFIRM_INTERVAL_MS = 1_000;
/** A confirmation that takes longer ends the term. Long enough to sit out a large commit that holds the same row. */
const CONFIRM_TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 5_000;
/** How fresh a confirmation has to be for the leader to speak for the cluster. */
export const LEADERSHIP_FRESH_MS = 5_000;
/** One line for this many failed attempts to reach Postgres. */
const LOG_EVERY_FAILURES = 20;

export class LeadershipLostError extends CodedError {
  constructor(why: string, options?: { cause?: unknown }) {
    super('LEADERSHIP_LOST', why, options);
  }
}

export interface LeaderOptions {
  readonly databaseUrl: string;
  readonly database: Database;
  /** A name for this process, for people who read the table. */
  readonly holder: string;
  readonly services: readonly LeaderService[];
  readonly log: Logger;
}

/**
 * Leads while it holds a session advisory lock on a connection of its own. Every takeover raises the owner epoch, which
 * every write of a term checks, so a leader that does not know yet that it lost the lock cannot write any more.
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
      application_name: 'masque-vpn leader',
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
      const { rows } = await client.query<{ locked: boolean }>('SELECT pg_try_advisory_lock($1) AS locked', [
        LEADER_LOCK_KEY,
      ]);
      const locked = rows[0]?.locked === true;
      this.refusedAtMs = locked ? Number.NEGATIVE_INFINITY : performance.now();
      if (locked) await this.lead(client, lost, signal);
    } finally {
      // Ending the session is what releases the lock; a broken one has nothing left to release.
      void client.end().catch(() => undefined);
    }
  }

  private async lead(client: pg.Client, lost: AbortController, signal: AbortSignal): Promise<void> {
    const { log, holder, services } = this.options;
    const askedAt = performance.now();
    const ownerEpoch = await this.takeOver();
    this.confirmedAtMs = askedAt;
    const term: Term = { ownerEpoch, signal: AbortSignal.any([signal, lost.signal]) };
    this.term = term;
    log.info({ ownerEpoch, holder }, 'leading');
    try {
      const running = services.map((service) => runService(service, term, log));
      await this.confirmUntilLost(client, term, lost);
      await Promise.all(running);
    } finally {
      this.term = undefined;
    }
    if (!signal.aborted) throw lost.signal.reason;
    log.info({ ownerEpoch }, 'leadership given up');
  }

  /** Begins a new term. The log's lock waits for what the term before still commits; nothing of it comes after. */
  private takeOver(): Promise<number> {
    return this.options.database.transaction().execute(async (trx) => {
      await lockProjections(trx);
      const now = sql<Date>`clock_timestamp()`;
      const { owner_epoch } = await trx
        .updateTable('leadership')
        .set((eb) => ({
          owner_epoch: eb('owner_epoch', '+', 1),
          holder: this.options.holder,
          since: now,
          confirmed_at: now,
        }))
        .returning('owner_epoch')
        .executeTakeFirstOrThrow();
      return owner_epoch;
    });
  }

  private async confirmUntilLost(client: pg.Client, term: Term, lost: AbortController): Promise<void> {
    while (!term.signal.aborted) {
      await delay(CONFIRM_INTERVAL_MS, undefined, { signal: term.signal }).catch(() => undefined);
      if (term.signal.aborted) return;
      const askedAt = performance.now();
      try {
        const { rowCount } = await client.query(
          'UPDATE leadership SET confirmed_at = clock_timestamp() WHERE owner_epoch = $1',
          [term.ownerEpoch],
        );
        if (rowCount === 1) this.confirmedAtMs = askedAt;
        else lost.abort(new LeadershipLostError('another process took over'));
      } catch (cause) {
        lost.abort(new LeadershipLostError('leadership could not be confirmed', { cause }));
      }
    }
  }
}
