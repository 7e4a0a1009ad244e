import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConnection } from 'nats';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log/logger.ts';
import { connectNats } from '../../shared/nats/connect.ts';
import { ensureEventStream } from '../../shared/nats/streams.ts';
import { auditorProblem } from '../storage/auditor-role.ts';
import type { Database } from '../storage/database.ts';
import { migrate } from '../storage/migrate.ts';
import { isDatabaseUnavailable } from './database-unavailable.ts';

const RETRY_INTERVAL_MS = 500;
/** One line for this many failed attempts. */
const LOG_EVERY_FAILURES = 20;

export interface Dependencies {
  readonly database: Database;
  readonly natsUrl: string;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** Run once the schema is up to date. What it throws ends the waiting, unless Postgres is away (again). */
  readonly check: () => Promise<void>;
}

/**
 * Waits for Postgres and brings its schema up to date, waits for NATS and makes the event stream where it is missing.
 * Throws when waiting cannot help, or when the signal aborts.
 */
export async function connectDependencies({
  database,
  natsUrl,
  log,
  signal,
  check,
}: Dependencies): Promise<NatsConnection> {
  const retry = <T>(what: string, canHelp: (error: unknown) => boolean, attempt: () => Promise<T>) =>
    retryUntil(attempt, (error) => canHelp(error) && !signal.aborted, what, log);
  const [nats] = await Promise.all([
    connectNats(natsUrl, 'control-plane', log, signal),
    retry('Postgres is not reachable', isDatabaseUnavailable, async () => {
      const applied = await migrate(database);
      if (applied.length > 0) log.info({ applied }, 'schema brought up to date');
      const problem = await auditorProblem(database);
      if (problem !== undefined) log.warn(problem);
      await check();
    }),
  ]);
  await retry(
    'JetStream is not ready',
    () => true,
    async () => ensureEventStream(await nats.jetstreamManager()),
  );
  return nats;
}

async function retryUntil<T>(
  attempt: () => Promise<T>,
  canHelp: (error: unknown) => boolean,
  what: string,
  log: Logger,
): Promise<T> {
  for (let failures = 0; ; failures++) {
    try {
      return await attempt();
    } catch (error) {
      if (!canHelp(error)) throw error;
      if (failures % LOG_EVERY_FAILURES === 0) log.warn(`${what}, retrying: ${describeError(error)}`);
      await delay(RETRY_INTERVAL_MS);
    }
  }
}
