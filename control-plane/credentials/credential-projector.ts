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

/**
 * Projects client_credentials into the bucket that nodes watch: single clients after each commit, everything at takeover
 * and whenever NATS is back. A failure ends `run`; the leader starts it again, and that compares everything.
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
    const bucket = await openCredentialBucket(this.nats);
    let compareAll = true;
    const unwatch = watchConnection(this.nats, {
      onUp: () => {
        compareAll = true;
        this.wake.abort();
      },
    });
    try {
      while (!term.signal.aborted) {
        this.wake = new AbortController();
        if (compareAll) {
          compareAll = false;
          await this.projectAll(bucket);
        } else {
          await this.projectChanged(bucket);
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
    this.changed.clear();
    const credentials = await this.load();
    const written: string[] = [];
    await inChunks(credentials, async (credential) => {
      if (await bucket.put(credential)) written.push(credential.clientId);
    });
    const known = new Set(credentials.map(({ clientId }) => clientId));
    const unknown = (await bucket.clientIds()).filter((clientId) => !known.has(clientId));
    // One that was enrolled since the rows above were read is in the bucket already, or comes with its notification.
    const current = new Set((await this.load(unknown)).map(({ clientId }) => clientId));
    const stale = unknown.filter((clientId) => !current.has(clientId));
    const removed: string[] = [];
    await inChunks(stale, async (clientId) => {
      if (await bucket.remove(clientId)) removed.push(clientId);
    });
    this.log.info(
      { clients: credentials.length, written: written.length, removed: removed.length },
      'credentials compared',
    );
  }

  private async projectChanged(bucket: CredentialBucket): Promise<void> {
    const clientIds = [...this.changed];
    this.changed.clear();
    if (clientIds.length === 0) return;
    await inChunks(await this.load(clientIds), (credential) => bucket.put(credential));
  }

  private async load(clientIds?: readonly string[]): Promise<Credential[]> {
    const filter = clientIds === undefined ? sql`` : sql`WHERE client_id = ANY(${clientIds}::text[])`;
    const { rows } = await sql<{
      client_id: string;
      version: number;
      state: Credential['state'];
      token_sha256: string;
      updated_at: Date;
    }>`SELECT client_id, version, state, token_sha256, updated_at FROM client_credentials ${filter}`.execute(
      this.database,
    );
    return rows.map((row) => ({
      clientId: row.client_id,
      version: row.version,
      state: row.state,
      tokenSha256: row.token_sha256,
      updatedAt: row.updated_at.toISOString(),
    }));
  }
}
