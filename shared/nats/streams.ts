import { DiscardPolicy, type JetStreamManager, nanos, RetentionPolicy, StorageType, type StreamConfig } from 'nats';
import { errorCode } from '../errors.ts';
import { EVENT_SUBJECTS } from '../events/subjects.ts';

export const EVENT_STREAM = 'VPN_EVENTS';
/** The bucket of client credentials: one key a client, written by the leader only. */
export const CREDENTIALS_BUCKET = 'vpn_credentials';

const GIBIBYTE = 1024 ** 3;
const DAY_MS = 24 * 60 * 60 * 1000;

/**
 * Limits retention with `discard: old` loses nothing: what is not committed to Postgres is still in a node's spool.
 * No purge and no delete, so that a sequence once given is never taken away by hand.
 */
export const EVENT_STREAM_CONFIG: Partial<StreamConfig> = {
  name: EVENT_STREAM,
  subjects: [EVENT_SUBJECTS],
  storage: StorageType.File,
  retention: RetentionPolicy.Limits,
  discard: DiscardPolicy.Old,
  max_bytes: 8 * GIBIBYTE,
  max_age: nanos(7 * DAY_MS),
  deny_purge: true,
  deny_delete: true,
};

/** Creates the event stream where it is missing; an existing one is left as its operator configured it. */
export async function ensureEventStream(jsm: JetStreamManager): Promise<void> {
  try {
    await jsm.streams.info(EVENT_STREAM);
  } catch (error) {
    if (errorCode(error) !== '404') throw error;
    await jsm.streams.add(EVENT_STREAM_CONFIG);
  }
}
