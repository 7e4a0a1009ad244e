import type pg from 'pg';
import { parseInt8 } from '../storage/database.ts';
import { LOCK_LOG } from '../storage/projection-lock.ts';

/** Key of the advisory lock that the leader holds ("mvpn" in ASCII). */
const LEADER_LOCK_KEY = 0x6d76706e;
/**
 * How old a leader's last confirmation may be (ours). An older one has another replica take over, and a leader does not speak for
 * the cluster any more: it gives up first, since it counts from when it asked.
 */
export const LEADERSHIP_FRESH_MS = 3_500;

/**
 * The session lock of the leader, on a connection of its own. A process that stands still keeps its connections, so one whose
 * confirmations have stopped loses them: Postgres ends its sessions, and what they had begun is rolled back.
 */
export class LeaderLock {
  readonly #client: pg.Client;
  /** Of all connections of this process. */
  readonly #applicationName: string;

  constructor(client: pg.Client, applicationName: string) {
    this.#client = client;
    this.#applicationName = applicationName;
  }

  /** False while another process has it. */
  async acquire(): Promise<boolean> {
    const { rows } = await this.#client.query<{ claimed: boolean }>(
      `SELECT claim_leadership($1, $2, $3 * interval '1 millisecond') AS claimed`,
      [LEADER_LOCK_KEY, this.#applicationName, LEADERSHIP_FRESH_MS],
    );
    return rows[0]?.claimed === true;
  }

  /**
   * Begins a new term and returns its owner epoch. The log's lock waits for what the term before still commits; nothing of it comes
   * after. In the session that has the leaders' lock, so that a term cannot begin once that is lost.
   */
  async beginTerm(holder: string): Promise<number> {
    await this.#client.query('BEGIN');
    await this.#client.query(LOCK_LOG);
    const { rows } = await this.#client.query<{ owner_epoch: string }>(
      `UPDATE leadership SET owner_epoch = owner_epoch + 1, holder = $1, since = clock_timestamp(),
         confirmed_at = clock_timestamp()
       RETURNING owner_epoch::text`,
      [holder],
    );
    await this.#client.query('COMMIT');
    return parseInt8(rows[0]?.owner_epoch ?? '');
  }

  /** Says that this process has it still. False when another term has begun. */
  async confirm(ownerEpoch: number): Promise<boolean> {
    const { rowCount } = await this.#client.query(
      'UPDATE leadership SET confirmed_at = clock_timestamp() WHERE owner_epoch = $1',
      [ownerEpoch],
    );
    return rowCount === 1;
  }
}
