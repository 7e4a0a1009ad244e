import type { DatabaseSync } from 'node:sqlite';
import { DEFAULT_POOL } from '../../shared/ip/block.ts';
import type { Credential } from '../../shared/nats/messages.ts';

/** `deleted`: the entry was taken out of the bucket; its version still counts. */
export type StoredCredential = Omit<Credential, 'state'> & { readonly state: Credential['state'] | 'deleted' };

export function loadCredentials(db: DatabaseSync): StoredCredential[] {
  const rows = db
    .prepare('SELECT client_id, version, state, token_sha256, updated_at, pool_name, addresses FROM credentials')
    .all();
  return rows.map((row) => ({
    clientId: String(row.client_id),
    version: Number(row.version),
    state: String(row.state) as StoredCredential['state'],
    tokenSha256: String(row.token_sha256),
    updatedAt: String(row.updated_at),
    pool: String(row.pool_name),
    addresses: JSON.parse(String(row.addresses)) as string[],
  }));
}

export function saveCredential(db: DatabaseSync, credential: StoredCredential): void {
  const { clientId, version, state, tokenSha256, updatedAt, pool = DEFAULT_POOL, addresses = [] } = credential;
  db.prepare(
    `INSERT OR REPLACE INTO credentials (client_id, version, state, token_sha256, updated_at, pool_name, addresses)
     VALUES (?, ?, ?, ?, ?, ?, ?)`,
  ).run(clientId, version, state, tokenSha256, updatedAt, pool, JSON.stringify(addresses));
}
