import type { KV, KvEntry, NatsConnection, QueuedIterator } from 'nats';
import { describeError } from '../../shared/errors.ts';
import type { IpAddress } from '../../shared/ip/address.ts';
import type { Logger } from '../../shared/log/logger.ts';
import { type Credential, credentialMessage } from '../../shared/nats/messages.ts';
import { CREDENTIALS_BUCKET } from '../../shared/nats/streams.ts';
import type { Link } from '../control-link/nats-link.ts';
import type { NodeDatabase } from '../state/node-database.ts';
import { type CredentialChange, CredentialSet, type KnownClient } from './credential-set.ts';
import { loadCredentials, saveCredential } from './credential-table.ts';

/** Ours: how soon a bucket that is not there is looked for again, milliseconds. */
const RETRY_MS = 500;
const REQUEST_TIMEOUT_MS = 1_000;
/** Ours: how often it is checked that the watch has seen all that is in the bucket. */
const CHECK_MS = 10_000;

export interface CredentialStoreOptions {
  readonly link: Link;
  readonly database: NodeDatabase;
  readonly log: Logger;
  /** The client's open tunnels must be closed now. */
  readonly onRevoked: (clientId: string) => void;
  /** These addresses are the client's own now, and no others. */
  readonly onOwned: (clientId: string, addresses: readonly IpAddress[]) => void;
}

interface Watch {
  readonly kv: KV;
  readonly entries: QueuedIterator<KvEntry>;
  /** The creation time of the bucket's stream: a bucket made anew is watched anew. */
  readonly created: string;
  revision: number;
}

/** The node's copy of the credentials bucket: watched while NATS is there, on disk for when it is not. */
export class CredentialStore {
  readonly #options: CredentialStoreOptions;
  readonly #credentials: CredentialSet;
  #watch: Watch | undefined;
  #connection: NatsConnection | undefined;
  #retry: NodeJS.Timeout | undefined;
  #check: NodeJS.Timeout | undefined;
  #synced = false;
  #behind = false;
  #stops: (() => void)[] = [];

  constructor(options: CredentialStoreOptions) {
    this.#options = options;
    this.#credentials = new CredentialSet(loadCredentials(options.database.reader));
  }

  /** Whether tokens can be judged: there is a copy, or the bucket was seen. */
  get ready(): boolean {
    return this.#synced || this.#credentials.size > 0;
  }

  /** The client of a bearer token, or undefined for one that is unknown, replaced or revoked. */
  authenticate(token: string): KnownClient | undefined {
    return this.#credentials.authenticate(token);
  }

  start(): void {
    const { link } = this.#options;
    this.#stops = [link.onUp((connection) => void this.#begin(connection)), link.onDown(() => this.#end())];
    this.#check = setInterval(() => void this.#checkWatch(), CHECK_MS);
  }

  stop(): void {
    for (const stop of this.#stops) stop();
    clearInterval(this.#check);
    this.#end();
  }

  async #begin(connection: NatsConnection): Promise<void> {
    this.#end();
    this.#connection = connection;
    try {
      const kv = await connection
        .jetstream({ checkAPI: false, timeout: REQUEST_TIMEOUT_MS })
        .views.kv(CREDENTIALS_BUCKET, { bindOnly: true });
      const { streamInfo } = await kv.status();
      const entries = await kv.watch({ initializedFn: () => this.#seen() });
      if (connection !== this.#connection || this.#watch !== undefined) {
        entries.stop();
        return;
      }
      this.#watch = { kv, entries, created: String(streamInfo.created), revision: 0 };
      void this.#follow(this.#watch);
    } catch (error) {
      this.#options.log.debug({ reason: describeError(error) }, 'the credentials bucket is not there yet');
      this.#beginLater(connection);
    }
  }

  #beginLater(connection: NatsConnection): void {
    if (connection !== this.#connection) return;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => void this.#begin(connection), RETRY_MS);
  }

  #end(): void {
    clearTimeout(this.#retry);
    this.#watch?.entries.stop();
    this.#watch = undefined;
    this.#connection = undefined;
    this.#behind = false;
  }

  async #follow(watch: Watch): Promise<void> {
    try {
      for await (const entry of watch.entries) {
        watch.revision = Math.max(watch.revision, entry.revision);
        this.#take(entry);
      }
    } catch (error) {
      this.#options.log.warn({ reason: describeError(error) }, 'the watch of the credentials bucket has failed');
    }
    if (watch === this.#watch && this.#connection !== undefined) {
      this.#watch = undefined;
      this.#beginLater(this.#connection);
    }
  }

  #take(entry: KvEntry): void {
    if (entry.operation !== 'PUT') {
      this.#apply(this.#credentials.delete(entry.key));
      return;
    }
    let credential: Credential;
    try {
      credential = credentialMessage.decode(entry.value);
    } catch (error) {
      this.#options.log.error({ err: error, key: entry.key }, 'an entry of the credentials bucket is unreadable');
      return;
    }
    if (credential.clientId !== entry.key) {
      this.#options.log.error({ key: entry.key }, 'an entry of the credentials bucket is about another client');
      return;
    }
    this.#apply(this.#credentials.put(credential));
  }

  #apply(change: CredentialChange | undefined): void {
    if (change === undefined) return;
    const { database, log, onRevoked, onOwned } = this.#options;
    const { clientId } = change.stored;
    database
      .commit((db) => saveCredential(db, change.stored))
      .catch((error: unknown) => log.error({ err: error }, 'a credential cannot be stored'));
    onOwned(clientId, this.#credentials.addressesOf(clientId));
    if (!change.revoked) return;
    log.info({ clientId }, 'client revoked');
    onRevoked(clientId);
  }

  #seen(): void {
    if (!this.#synced) this.#options.log.info({ clients: this.#credentials.size }, 'credentials are up to date');
    this.#synced = true;
  }

  /** A watch can die without a word, e.g. when its bucket is made anew. Behind twice in a row is not just late. */
  async #checkWatch(): Promise<void> {
    const watch = this.#watch;
    const connection = this.#connection;
    if (watch === undefined || connection === undefined) return;
    try {
      const { streamInfo } = await watch.kv.status();
      if (watch !== this.#watch) return;
      const isBehind = streamInfo.state.messages > 0 && streamInfo.state.last_seq > watch.revision;
      const isAnother = String(streamInfo.created) !== watch.created;
      if (isAnother || (isBehind && this.#behind)) void this.#begin(connection);
      else this.#behind = isBehind;
    } catch (error) {
      this.#options.log.debug({ reason: describeError(error) }, 'the credentials bucket cannot be checked');
      if (watch === this.#watch) void this.#begin(connection);
    }
  }
}
