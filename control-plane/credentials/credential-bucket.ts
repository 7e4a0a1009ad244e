import { type KV, type NatsConnection, StorageType } from 'nats';
import { type Credential, credentialMessage } from '../../shared/nats/messages.ts';
import { CREDENTIALS_BUCKET } from '../../shared/nats/streams.ts';

/** Entries read at once (ours). */
const READ_CONCURRENCY = 100;
/** Short (ours): what NATS loses in a reconnect has no answer, and a revocation must not wait long for that. */
const REQUEST_TIMEOUT_MS = 1_000;
/** Nodes need the newest entry of a client only. */
const HISTORY = 1;
const KEY_PREFIX = `$KV.${CREDENTIALS_BUCKET}.`;

/** The bucket that nodes watch. Only the leader writes it. */
export interface CredentialBucket {
  /** The client ids that have, or once had, an entry. */
  clientIds(): Promise<string[]>;
  /** Writes an entry unless the bucket has the same or a newer version. Says whether it wrote. */
  put(credential: Credential): Promise<boolean>;
  /** The revision of an entry, for `remove`; undefined where there is none. */
  revisionOf(clientId: string): Promise<number | undefined>;
  /** Takes an entry away. Throws when it is not of that revision any more. */
  remove(clientId: string, revision: number): Promise<void>;
}

/** Opens the bucket, and creates it where it is missing. */
export async function openCredentialBucket(nats: NatsConnection): Promise<CredentialBucket> {
  const options = { checkAPI: false, timeout: REQUEST_TIMEOUT_MS };
  const kv = await nats
    .jetstream(options)
    .views.kv(CREDENTIALS_BUCKET, { history: HISTORY, storage: StorageType.File });
  const manager = await nats.jetstreamManager(options);
  return {
    async clientIds() {
      const { streamInfo } = await kv.status();
      const info = await manager.streams.info(streamInfo.config.name, { subjects_filter: `${KEY_PREFIX}>` });
      return Object.keys(info.state.subjects ?? {}).map((subject) => subject.slice(KEY_PREFIX.length));
    },
    put: (credential) => put(kv, credential),
    async revisionOf(clientId) {
      const entry = await kv.get(clientId);
      return entry?.operation === 'PUT' ? entry.revision : undefined;
    },
    remove: (clientId, revision) => kv.delete(clientId, { previousSeq: revision }),
  };
}

/** Runs `work` on every item, READ_CONCURRENCY at a time, and `between` before each lot. */
export async function inChunks<T>(
  items: readonly T[],
  work: (item: T) => Promise<unknown>,
  between?: () => Promise<void>,
): Promise<void> {
  for (let i = 0; i < items.length; i += READ_CONCURRENCY) {
    await between?.();
    await Promise.all(items.slice(i, i + READ_CONCURRENCY).map(work));
  }
}

async function put(kv: KV, credential: Credential): Promise<boolean> {
  const entry = await kv.get(credential.clientId);
  const present = entry?.operation === 'PUT' ? decodeOrUndefined(entry.value) : undefined;
  if (present && present.version >= credential.version) return false;
  // The revision makes a write of a leader that has lost its lock meanwhile fail instead of undoing a newer one.
  await kv.put(credential.clientId, credentialMessage.encode(credential), { previousSeq: entry?.revision ?? 0 });
  return true;
}

function decodeOrUndefined(bytes: Uint8Array): Credential | undefined {
  try {
    return credentialMessage.decode(bytes);
  } catch {
    return undefined;
  }
}
