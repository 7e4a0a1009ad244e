import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import type { Database, DatabaseTransaction } from '../../../control-plane/storage/database.ts';
import { overlap } from '../../../control-plane/storage/overlap.ts';
import { send } from '../../../control-plane/storage/send.ts';
import { startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';

let postgres: TestPostgres;
let database: Database;
before(async () => {
  postgres = await startTestPostgres();
  database = await postgres.database();
  await sql`CREATE TABLE numbers (number integer PRIMARY KEY)`.execute(database);
});
after(async () => postgres.stop());

const insert = (trx: DatabaseTransaction, number: number) =>
  send(trx, sql`INSERT INTO numbers SELECT ${number}::integer FROM pg_sleep(0.01)`);

async function numbers(): Promise<number[]> {
  const { rows } = await sql<{ number: number }>`SELECT number FROM numbers ORDER BY number`.execute(database);
  return rows.map(({ number }) => number);
}

test('statements are sent before the ones ahead of them have ended, and take effect in their order', async () => {
  const ended: number[] = [];
  let endedAtLastSend: number | undefined;
  await database.transaction().execute(async (trx) => {
    await overlap(
      [1, 2, 3].map((number) => async () => {
        const running = insert(trx, number);
        endedAtLastSend = ended.length;
        await running;
        ended.push(number);
      }),
    );
  });
  assert.equal(endedAtLastSend, 0);
  assert.deepEqual(
    [ended, await numbers()],
    [
      [1, 2, 3],
      [1, 2, 3],
    ],
  );
});

test('the error is that of the statement that failed, not of those behind it, and nothing is sent after it is known', async () => {
  const refused = database.transaction().execute(async (trx) => {
    await overlap([
      async () => {
        await insert(trx, 4);
        await insert(trx, 5);
      },
      () => insert(trx, 1),
      () => insert(trx, 6),
    ]);
  });
  await assert.rejects(refused, { code: '23505' });
  assert.deepEqual(await numbers(), [1, 2, 3]);
  await database.transaction().execute((trx) => insert(trx, 7));
  assert.deepEqual(await numbers(), [1, 2, 3, 7]);
});
