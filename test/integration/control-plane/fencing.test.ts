import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { openCredentialBucket } from '../../../control-plane/credentials/credential-bucket.ts';
import { outboxPublisher } from '../../../control-plane/outbox/outbox-publisher.ts';
import { PoolService } from '../../../control-plane/pools/pool-service.ts';
import { PoolUpkeep } from '../../../control-plane/pools/pool-upkeep.ts';
import { presenceService } from '../../../control-plane/presence/presence-service.ts';
import { createDatabase, createPool, type Database } from '../../../control-plane/storage/database.ts';
import { migrate } from '../../../control-plane/storage/migrate.ts';
import { createLogger } from '../../../shared/log/logger.ts';
import { type Credential, presenceMessage, presenceSubject } from '../../../shared/nats/messages.ts';
import { ensureEventStream } from '../../../shared/nats/streams.ts';
import { needsBinary } from '../../support/requirements.ts';
import { startServers, type TestServers } from './control-plane-setup.ts';

const skip = needsBinary('nats-server', 'nats-server');
const log = createLogger('test', 'silent');
const id = () => randomBytes(16).toString('hex');

let servers: TestServers;
let database: Database;
/** Of a leader that does not know yet that term 8 has begun. */
const past = { ownerEpoch: 7, signal: new AbortController().signal };

before(async () => {
  if (skip) return;
  servers = await startServers();
  database = createDatabase(createPool(servers.postgres.url, 'test', () => undefined));
  await migrate(database);
  await database.updateTable('leadership').set({ owner_epoch: 8 }).execute();
  await ensureEventStream(await servers.connection.jetstreamManager());
});

after(async () => {
  await database?.destroy();
  await servers?.stop();
});

test('a leader of the past takes nothing from the outbox', { skip }, async () => {
  const envelope = {
    ...{ node: 'control', epoch: id(), seq: 1, incarnation: id(), type: 'node.lost', version: 1 },
    ...{ at: new Date().toISOString(), data: { node: 'node-a', incarnation: id(), lastSeenAt: null } },
  };
  await sql`INSERT INTO outbox (seq, epoch, position, envelope)
    VALUES (1, ${envelope.epoch}, 1, ${JSON.stringify(envelope)}::jsonb)`.execute(database);
  const publisher = outboxPublisher(database, servers.connection, log);
  await assert.rejects(publisher.run(past), { code: 'NOT_LEADER' });
  assert.equal((await database.selectFrom('outbox').select('seq').execute()).length, 1);
});

test('a leader of the past writes no presence', { skip }, async () => {
  const presence = presenceMessage.encode({ epoch: id(), incarnation: id() });
  const timer = setInterval(() => servers.connection.publish(presenceSubject('node-a'), presence), 100);
  try {
    const service = presenceService(servers.connection, { database, incarnation: id() }, log);
    await assert.rejects(service.run(past), { code: 'NOT_LEADER' });
  } finally {
    clearInterval(timer);
  }
  const { rows } = await sql`SELECT FROM node_presence`.execute(database);
  assert.equal(rows.length, 0);
});

test('a leader of the past writes down no use of pools', { skip }, async () => {
  const upkeep = new PoolUpkeep(database, servers.connection, new PoolService({ database, incarnation: id() }), log);
  await assert.rejects(upkeep.run(past), { code: 'NOT_LEADER' });
  const { rows } = await sql`SELECT FROM pool_usage`.execute(database);
  assert.equal(rows.length, 0);
});

test('a leader of the past undoes no credential, and takes none away that came since it looked', { skip }, async () => {
  const bucket = await openCredentialBucket(servers.connection);
  const credential = (version: number, state: Credential['state']): Credential => ({
    ...{ clientId: 'ada', version, state, tokenSha256: '0'.repeat(64), updatedAt: new Date().toISOString() },
  });
  await bucket.put(credential(1, 'active'));
  const seen = await bucket.revisionOf('ada');
  assert.ok(seen);
  await bucket.put(credential(2, 'revoked'));
  assert.equal(await bucket.put(credential(1, 'active')), false);
  await assert.rejects(bucket.remove('ada', seen));
  const now = await bucket.revisionOf('ada');
  assert.ok(now && now > seen);
  await bucket.remove('ada', now);
  assert.equal(await bucket.revisionOf('ada'), undefined);
});
