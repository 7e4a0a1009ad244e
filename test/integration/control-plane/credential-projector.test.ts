import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import type { KV } from 'nats';
import { CredentialProjector } from '../../../control-plane/credentials/credential-projector.ts';
import { createDatabase, createPool, type Database } from '../../../control-plane/storage/database.ts';
import { migrate } from '../../../control-plane/storage/migrate.ts';
import { createLogger } from '../../../shared/log/logger.ts';
import { type Credential, credentialMessage } from '../../../shared/nats/messages.ts';
import { CREDENTIALS_BUCKET } from '../../../shared/nats/streams.ts';
import { needsBinary } from '../../support/requirements.ts';
import { waitFor } from '../../support/wait-for.ts';
import { startServers, type TestServers } from './control-plane-setup.ts';

const skip = needsBinary('nats-server', 'nats-server');
const TIMEOUT_MS = 10_000;
/** Less than any entry. */
const TOO_SMALL_BYTES = 10;

let servers: TestServers;
let database: Database;
before(async () => {
  if (skip) return;
  servers = await startServers();
  database = createDatabase(createPool(servers.postgres.url, 'test', () => undefined));
  await migrate(database);
});
after(async () => {
  await database?.destroy();
  await servers?.stop();
});

async function store(clientId: string, version: number, state: Credential['state']): Promise<void> {
  await sql`
    INSERT INTO client_credentials (client_id, version, state, pool, token_sha256, updated_at)
    VALUES (${clientId}, ${version}, ${state}, 'default', ${'0'.repeat(64)}, now())
    ON CONFLICT (client_id) DO UPDATE SET version = excluded.version, state = excluded.state`.execute(database);
}

async function stateOf(kv: KV, clientId: string): Promise<Credential['state'] | undefined> {
  const entry = await kv.get(clientId);
  return entry?.operation === 'PUT' ? credentialMessage.decode(entry.value).state : undefined;
}

test('a revocation that NATS refuses for a while is written soon after it can be', { skip }, async (t) => {
  const log = createLogger('test', 'silent');
  const projector = new CredentialProjector(database, servers.connection, log);
  const end = new AbortController();
  await store('alice', 1, 'active');
  const ended = projector.run({ ownerEpoch: 1, signal: end.signal });
  t.after(async () => {
    end.abort();
    await ended;
  });
  const manager = await servers.connection.jetstreamManager();
  const kv = await waitFor(() => servers.connection.jetstream().views.kv(CREDENTIALS_BUCKET, { bindOnly: true }), {
    timeoutMs: TIMEOUT_MS,
    what: 'the bucket',
  });
  const active = async () => (await stateOf(kv, 'alice')) === 'active';
  await waitFor(active, { timeoutMs: TIMEOUT_MS, what: 'the credential' });

  const { config } = await manager.streams.info(`KV_${CREDENTIALS_BUCKET}`);
  await manager.streams.update(config.name, { ...config, max_msg_size: TOO_SMALL_BYTES });
  let attempts = 0;
  servers.connection.subscribe(`$KV.${CREDENTIALS_BUCKET}.alice`, { callback: () => void attempts++ });
  await servers.connection.flush();
  await store('alice', 2, 'revoked');
  projector.notify('alice');
  await waitFor(() => attempts >= 6, { timeoutMs: TIMEOUT_MS, what: 'some attempts' });
  assert.equal(await stateOf(kv, 'alice'), 'active');

  await manager.streams.update(config.name, config);
  const since = performance.now();
  await waitFor(async () => (await stateOf(kv, 'alice')) === 'revoked', { timeoutMs: 2_000, what: 'the revocation' });
  assert.ok(performance.now() - since < 1_500);
});
