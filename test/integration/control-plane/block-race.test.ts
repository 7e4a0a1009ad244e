import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { newBlock } from '../../../control-plane/blocks/block-aggregate.ts';
import { BlockService } from '../../../control-plane/blocks/block-service.ts';
import { saveChanges } from '../../../control-plane/blocks/block-store.ts';
import { DecisionConflictError } from '../../../control-plane/leader/decide-in-transaction.ts';
import { createDatabase, createPool, type Database } from '../../../control-plane/storage/database.ts';
import { migrate } from '../../../control-plane/storage/migrate.ts';
import { NotLeaderError } from '../../../control-plane/storage/term.ts';
import { type PostgresServer, startPostgres } from '../../../deploy/local/postgres.ts';
import { DEFAULT_POOL } from '../../../shared/ip/block.ts';
import type { BlockRequest } from '../../../shared/nats/messages.ts';
import { addPool } from '../projector/projector-database.ts';

/** A pool of 16 whole blocks: 13 of them, and then smaller ones, each a quarter of what is left, down to /28. */
const POOL = '10.99.0.0/22';
const BLOCKS = 22;
const REQUESTS = 24;

const directory = mkdtempSync(join(tmpdir(), 'masque-vpn-'));
const databases: Database[] = [];
let postgres: PostgresServer;

const randomId = () => randomBytes(16).toString('hex');
const acquire = (node: string, requestId = randomId()): BlockRequest => ({ op: 'acquire', node, family: 4, requestId });

function decider(): BlockService {
  const database = createDatabase(createPool(postgres.url, 'test', () => undefined));
  databases.push(database);
  return new BlockService({ database, incarnation: randomId(), leaseSeconds: 600 });
}

before(async () => {
  postgres = await startPostgres({ directory, settings: { fsync: 'off' } });
  const database = createDatabase(createPool(postgres.url, 'test', () => undefined));
  databases.push(database);
  await migrate(database);
  await database.updateTable('leadership').set({ owner_epoch: 7 }).execute();
  await addPool(database, DEFAULT_POOL, [POOL]);
});

after(async () => {
  await Promise.all(databases.map((database) => database.destroy()));
  await postgres?.stop();
  rmSync(directory, { recursive: true, force: true });
});

test('two deciders that race on one Postgres never grant one block twice, and then say that none is left', async () => {
  const deciders = [decider(), decider()];
  const replies = await Promise.all(
    Array.from({ length: REQUESTS }, (_, i) => deciders[i % 2]!.handle({ ownerEpoch: 7 }, acquire(`node-${i % 3}`))),
  );
  const granted = replies.flatMap((reply) => (reply.ok ? reply.leases.map(({ block }) => block) : []));
  assert.equal(granted.length, BLOCKS);
  assert.equal(new Set(granted).size, BLOCKS);
  const refused = replies.filter((reply) => !reply.ok).map((reply) => !reply.ok && reply.code);
  assert.deepEqual(refused, new Array(REQUESTS - BLOCKS).fill('exhausted'));
  const [database] = databases;
  const { count } = await database!
    .selectFrom('block_grants')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow();
  assert.equal(count, BLOCKS);
  const events = await database!.selectFrom('events').select('type').execute();
  assert.deepEqual(
    events.map(({ type }) => type),
    ['pool.added', ...new Array(BLOCKS).fill('block.granted')],
  );
});

test('without the lock of the log the version alone stops the second decider', async () => {
  const [database] = databases;
  const change = {
    before: newBlock('10.98.0.0/26', '10.98.0.0/24'),
    event: {
      type: 'block.granted',
      at: '2026-01-01T00:00:00.000Z',
      data: { block: '10.98.0.0/26', pool: '10.98.0.0/24', node: 'node-a', leaseEnd: '2026-01-01T01:00:00.000Z' },
    },
  } as const;
  const save = () => database!.transaction().execute((trx) => saveChanges(trx, [change]));
  const outcomes = await Promise.allSettled([save(), save()]);
  const failures = outcomes.filter((outcome) => outcome.status === 'rejected');
  assert.equal(failures.length, 1);
  assert.ok(failures[0]?.reason instanceof DecisionConflictError);
  await sql`DELETE FROM block_states WHERE block = '10.98.0.0/26'`.execute(database!);
});

test('a returned block is free again, and a repeated request gets the same block', async () => {
  const [database] = databases;
  const block = '10.99.0.0/26';
  const { node } = await database!
    .selectFrom('block_grants')
    .select('node')
    .where('block', '=', block)
    .executeTakeFirstOrThrow();
  const service = decider();
  const returned = await service.handle({ ownerEpoch: 7 }, { op: 'return', node, blocks: [block] });
  assert.deepEqual(returned, { ok: true, leases: [], lost: [] });
  const early = await service.handle({ ownerEpoch: 7 }, acquire('node-z'));
  assert.ok(!early.ok && early.code === 'exhausted', 'it rests');
  // The test does not wait for the block's rest of a minute.
  await sql`UPDATE block_states SET freed_at = freed_at - interval '1 minute' WHERE block = ${block}::cidr`.execute(
    database!,
  );
  const requestId = randomId();
  const first = await service.handle({ ownerEpoch: 7 }, acquire('node-z', requestId));
  assert.deepEqual(first.ok && first.leases[0]?.block, '10.99.0.0/28', 'a quarter of the last free block');
  assert.deepEqual(await decider().handle({ ownerEpoch: 7 }, acquire('node-z', requestId)), first);
});

test('a lease that ended two minutes ago is taken back, once', async () => {
  const [database] = databases;
  await sql`UPDATE block_states SET lease_end = now() - interval '121 seconds' WHERE node = 'node-z'`.execute(
    database!,
  );
  const [a, b] = await Promise.all([decider(), decider()].map((service) => service.reclaimExpired({ ownerEpoch: 7 })));
  assert.deepEqual([...a!, ...b!], ['10.99.0.0/28']);
});

test('a decider whose term is over is refused and changes nothing', async () => {
  await assert.rejects(decider().handle({ ownerEpoch: 6 }, acquire('node-a')), NotLeaderError);
});
