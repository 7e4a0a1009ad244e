import { sql } from 'kysely';
import type { NatsConnection } from 'nats';
import { describeError } from '../../shared/errors.ts';
import { isStuck, type ProjectionStatus, STUCK_AFTER_SECONDS } from '../metrics/projection-status.ts';
import type { Database } from '../storage/database.ts';
import { LEADERSHIP_FRESH_MS } from './leader-lock.ts';

/** Says what is missing before this process can do its work; an empty list when nothing is. */
export function createReadiness(
  database: Database,
  nats: () => NatsConnection | undefined,
  projectionStatus: () => Promise<ProjectionStatus>,
  leader: { isConfirmed(): boolean; isFollowing(): boolean },
): () => Promise<string[]> {
  return async () => {
    if (!nats()) return ['Postgres, its schema or NATS is not reached yet'];
    try {
      const { rows } = await sql<{ led: boolean | null }>`
        SELECT confirmed_at > clock_timestamp() - ${LEADERSHIP_FRESH_MS} * interval '1 millisecond' AS led
        FROM leadership`.execute(database);
      // What is confirmed can be the term of a process that has just ended, e.g. this one's predecessor.
      const isLed = leader.isConfirmed() || (leader.isFollowing() && rows[0]?.led === true);
      if (!isLed) return ['no control plane leads'];
      const status = await projectionStatus();
      if (status.lagSeconds === null) return ['NATS does not answer'];
      return isStuck(status) ? [`the projection is stuck: work waits for more than ${STUCK_AFTER_SECONDS} s`] : [];
    } catch (error) {
      return [`Postgres does not answer: ${describeError(error)}`];
    }
  };
}
