import { sql } from 'kysely';
import { CodedError, errorCode } from '../../shared/errors.ts';
import type { NewEvent } from '../../shared/events/envelope.ts';
import { appendControlEvents } from '../log/append-control-events.ts';
import type { Database, DatabaseTransaction } from '../storage/database.ts';
import { checkOwnerEpoch, lockProjections } from '../storage/projection-lock.ts';
import { readClock } from '../storage/read-clock.ts';

/** How often a decision is made anew because another decider was faster (ours). */
const MAX_ATTEMPTS = 5;
/** Postgres: unique violation, serialization failure, deadlock. */
const CONFLICT_CODES = new Set(['23505', '40001', '40P01', 'DECISION_CONFLICT']);

/** The state that a decision was made on has changed meanwhile; the decision has to be made again. */
export class DecisionConflictError extends CodedError {
  constructor(what: string) {
    super('DECISION_CONFLICT', `${what} was changed by another decider`);
  }
}

/** An event, and the place that it takes in its aggregate where it has one. */
export interface DecidedEvent {
  readonly event: NewEvent;
  readonly aggregate?: { readonly name: string; readonly version: number };
}

export interface Decided<R> {
  readonly events: readonly DecidedEvent[];
  readonly result: R;
}

/** Where decisions are made: the database, and the incarnation of this process for its events. */
export interface DecisionContext {
  readonly database: Database;
  readonly incarnation: string;
  /** Milliseconds since 1970; Postgres' clock unless said otherwise. */
  readonly clock?: (trx: DatabaseTransaction) => Promise<number>;
}

/**
 * Runs one decision: reads state, decides, appends and projects its events, all in one transaction under the lock of the
 * log. `decide` gets the transaction and Postgres' clock (milliseconds since 1970). It may run more than once, so it must
 * have no effects outside the transaction. Throws NotLeaderError when the term is over.
 */
export async function decideInTransaction<R>(
  context: DecisionContext,
  term: { readonly ownerEpoch: number },
  decide: (trx: DatabaseTransaction, now: number) => Promise<Decided<R>>,
): Promise<R> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await context.database.transaction().execute((trx) => decideOnce(trx, context, term, decide));
    } catch (error) {
      if (attempt >= MAX_ATTEMPTS || !CONFLICT_CODES.has(errorCode(error) ?? '')) throw error;
    }
  }
}

async function decideOnce<R>(
  trx: DatabaseTransaction,
  { incarnation, clock = readClock }: DecisionContext,
  { ownerEpoch }: { readonly ownerEpoch: number },
  decide: (trx: DatabaseTransaction, now: number) => Promise<Decided<R>>,
): Promise<R> {
  await lockProjections(trx);
  await checkOwnerEpoch(trx, ownerEpoch);
  const { events, result } = await decide(trx, await clock(trx));
  if (events.length === 0) return result;
  const appended = await appendControlEvents(
    trx,
    { ownerEpoch, incarnation },
    events.map(({ event }) => event),
  );
  const versions = events.flatMap(({ aggregate }, i) => (aggregate ? [{ ...aggregate, seq: appended[i]?.seq }] : []));
  if (versions.length > 0) {
    await sql`
      INSERT INTO aggregate_events (aggregate, version, seq)
      SELECT * FROM unnest(${versions.map(({ name }) => name)}::text[],
        ${versions.map(({ version }) => version)}::bigint[], ${versions.map(({ seq }) => seq)}::bigint[])`.execute(trx);
  }
  return result;
}
