import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import type pg from 'pg';
import {
  createDatabase,
  createPool,
  type Database,
  type DatabaseTransaction,
} from '../../../control-plane/storage/database.ts';
import { overlap } from '../../../control-plane/storage/overlap.ts';
import { send } from '../../../control-plane/storage/send.ts';
import { waitFor } from '../../support/wait-for.ts';
import { startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';

/** Of an advisory lock. */
const LOCK = 7;
/** So that what is sent can be told by its size. */
const PADDING = 'x'.repeat(100_000);
const TIMEOUT_MS = 10_000;

let postgres: TestPostgres;
let holder: Database;
let pool: pg.Pool;
let database: Database;
let socket: Socket | undefined;
before(async () => {
  postgres = await startTestPostgres();
  holder = await postgres.database();
  pool = createPool(postgres.url(), 'overlap', () => undefined);
  pool.on('acquire', (client) => {
    socket = (client as pg.PoolClient & { connection: { stream: Socket } }).connection.stream;
  });
  database = createDatabase(pool);
  await sql`CREATE TABLE numbers (number integer PRIMARY KEY)`.execute(database);
});
after(async () => {
  await database.destroy();
  await postgres.stop();
});

const insert = (trx: DatabaseTransaction, number: number) =>
  send(trx, sql`INSERT INTO numbers SELECT ${number}::integer WHERE length(${PADDING}::text) > 0`);

async function numbers(): Promise<number[]> {
  const { rows } = await sql<{ number: number }>`SELECT number FROM numbers ORDER BY number`.execute(database);
  return rows.map(({ number }) => number);
}

test('statements are sent before the ones ahead of them have ended, and take effect in their order', async () => {
  const ended: number[] = [];
  let begun = 0;
  let written: Promise<void> | undefined;
  await holder.transaction().execute(async (holding) => {
    await sql`SELECT pg_advisory_xact_lock(${LOCK})`.execute(holding);
    written = database.transaction().execute(async (trx) => {
      begun = socket?.bytesWritten ?? 0;
      const statements = [1, 2, 3].map((number) => async () => {
        await insert(trx, number);
        ended.push(number);
      });
      await overlap([() => send(trx, sql`SELECT pg_advisory_xact_lock(${LOCK})`), ...statements]);
    });
    const areSent = () => begun > 0 && (socket?.bytesWritten ?? 0) - begun > 3 * PADDING.length;
    await waitFor(areSent, { timeoutMs: TIMEOUT_MS, what: 'all statements on their way' });
    assert.deepEqual(ended, []);
  });
  await written;
  assert.deepEqual(ended, [1, 2, 3]);
  assert.deepEqual(await numbers(), [1, 2, 3]);
});

test('the error is that of the statement that failed, not of those behind it, and comes when all have ended', async () => {
  const refused = database.transaction().execute(async (trx) => {
    await overlap([
      () => overlap([() => insert(trx, 1), () => insert(trx, 4)]),
      () => insert(trx, 5),
      async () => {
        await insert(trx, 6);
        await insert(trx, 7);
      },
    ]);
  });
  await assert.rejects(refused, { code: '23505' });
  await database.transaction().execute((trx) => insert(trx, 8));
  assert.deepEqual(await numbers(), [1, 2, 3, 8]);
});
