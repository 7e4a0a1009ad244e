import { setTimeout as delay } from 'node:timers/promises';
import { sql } from 'kysely';
import type { NatsConnection } from 'nats';
import type { Logger } from '../../shared/log/logger.ts';
import type { Credential } from '../../shared/nats/messages.ts';
import type { LeaderService } from '../leader/leader-service.ts';
import { watchConnection } from '../leader/watch-connection.ts';
import type { Database } from '../storage/database.ts';
import type { Term } from '../storage/term.ts';
import { type CredentialBucket, inChunks, openCredentialBucket } from './credential-bucket.ts';

/** A whole comparison even when nothing seems to have happened (ours). */
const COMPARE_INTERVAL_MS = 10 * 60_000;
/** Before the next attempt after a failure (ours): a revocation is to reach the nodes within 2 s of NATS' return. */
const RETRY_PAUSE_MS = 250;
/** One line for this many failures in a row. */
const LOG_EVERY_FAILURES = 40;

/**
 * Projects client_credentials into the bucket that nodes watch: single clients after each commit, everything at takeover
 * and whenever NATS is back. What fails is tried again, single clients first, until the term ends.
 */
export class CredentialProjector implements LeaderService {
  readonly name = 'credentials';
  private readonly database: Database;
  private readonly nats: NatsConnection;
  private readonly log: Logger;
  private readonly changed = new Set<string>();
  private wake = new AbortController();

  constructor(database: Database, nats: NatsConnection, log: Logger) {
    this.database = database;
    this.nats = nats;
    this.log = log;
  }

  /** Says that a client's credential was committed. */
  notify(clientId: string): void {
    this.changed.add(clientId);
    this.wake.abort();
  }

  async run(term: Term): Promise<void> {
    let bucket: CredentialBucket | undefined;
    let compareAll = true;
    let failures = 0;
    const unwatch = watchConnection(this.nats, {
      onUp: () => {
        compareAll = true;
        this.wake.abort();
      },
    });
    try {
      while (!term.signal.aborted) {
        this.wake = new AbortController();
        const isWhole = compareAll;
        compareAll = false;
        try {
          bucket ??= await openCredentialBucket(this.nats);
          await this.projectChanged(bucket);
          if (isWhole) await this.projectAll(bucket);
          failures = 0;
        } catch (error) {
          if (failures++ % LOG_EVERY_FAILURES === 0) {
            this.log.error({ err: error, failures }, 'credentials cannot be written, trying again');
          }
          // It may be another bucket by then.
          bucket = undefined;
          compareAll = true;
          await delay(RETRY_PAUSE_MS, undefined, { signal: term.signal }).catch(() => undefined);
        }
        if (compareAll || this.changed.size > 0) continue;
        const sleep = AbortSignal.any([term.signal, this.wake.signal]);
        compareAll = await delay(COMPARE_INTERVAL_MS, true, { signal: sleep }).catch(() => compareAll);
      }
    } finally {
      unwatch();
    }
  }

  private async projectAll(bucket: CredentialBucket): Promise<void> {
    const credentials = await this.load();
    const written: string[] = [];
    const write = async (credential: Credential): Promise<void> => {
      if (await bucket.put(credential)) written.push(credential.clientId);
    };
    // A revocation does not wait until thousands are compared.
    await inChunks(credentials, write, () => this.projectChanged(bucket));
    const known = new Set(credentials.map(({ clientId }) => clientId));
    const unknown = (await bucket.clientIds()).filter((clientId) => !known.has(clientId));
    // Before Postgres is asked again: what another leader writes later has a later revision, and is not taken away.
    const revisions = new Map<string, number>();
    await inChunks(unknown, async (clientId) => {
      const revision = await bucket.revisionOf(clientId);
      if (revision !== undefined) revisions.set(clientId, revision);
    });
    // One that was enrolled since the rows above were read is in the bucket already, or comes with its notification.
    for (const { clientId } of await this.load([...revisions.keys()])) revisions.delete(clientId);
    await inChunks([...revisions], ([clientId, revision]) => bucket.remove(clientId, revision));
    this.log.info(
      { clients: credentials.length, written: written.length, removed: revisions.size },
      'credentials compared',
    );
  }

  private async projectChanged(bucket: CredentialBucket): Promise<void> {
    const clientIds = [...this.changed];
    if (clientIds.length === 0) return;
    this.changed.clear();
    try {
      await inChunks(await this.load(clientIds), (credential) => bucket.put(credential));
    } catch (error) {
      for (const clientId of clientIds) this.changed.add(clientId);
      throw error;
    }
  }

  private async load(clientIds?: readonly string[]): Promise<Credential[]> {
    const filter = clientIds === undefined ? sql`` : sql`WHERE client_id = ANY(${clientIds}::text[])`;
    const { rows } = await sql<{
      client_id: string;
      version: number;
      state: Credential['state'];
      pool: string;
      token_sha256: string;
      updated_at: Date;
      addresses: string[];
    }>`
      SELECT client_id, version, state, pool, token_sha256, updated_at,
        ARRAY(SELECT host(address) FROM static_addresses s WHERE s.client_id = c.client_id) AS addresses
      FROM client_credentials c ${filter}`.execute(this.database);
    return rows.map((row) => ({
      clientId: row.client_id,
      version: row.version,
      state: row.state,
      pool: row.pool,
      addresses: row.addresses,
      tokenSha256: row.token_sha256,
      updatedAt: row.updated_at.toISOString(),
    }));
  }
}
