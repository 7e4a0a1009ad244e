import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { checkEvent } from '../../../control-plane/log/check-event.ts';
import type { LogEntry } from '../../../control-plane/log/log-entry.ts';
import { recordEntries } from '../../../control-plane/log/record-entries.ts';
import { lockProjections } from '../../../control-plane/storage/projection-lock.ts';
import { readGoldenEvents } from '../../support/golden-events.ts';
import { startTestPostgres, type TestPostgres } from './projector-database.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres.stop());

test('events of every version ever written are projected, and the log keeps them as they were written', async () => {
  const database = await postgres.database();
  const golden = readGoldenEvents().map(({ envelope }) => envelope);
  const entries = golden.map(
    (envelope, index): LogEntry => ({
      position: index + 1,
      streamSeq: null,
      event: checkEvent(envelope),
      written: envelope,
    }),
  );
  await database.transaction().execute(async (trx) => {
    await lockProjections(trx);
    await recordEntries(trx, entries);
  });

  const log = await database.selectFrom('events').select(['type', 'version', 'data']).orderBy('position').execute();
  assert.deepEqual(
    log,
    golden.map(({ type, version, data }) => ({ type, version, data })),
  );
  const clients = await database.selectFrom('clients').selectAll().orderBy('client_id').execute();
  assert.deepEqual(
    clients.map(({ client_id, name, pool, state }) => ({ client_id, name, pool, state })),
    [
      { client_id: 'ada', name: 'Ada L.', pool: 'default', state: 'active' },
      { client_id: 'grace', name: 'Grace H.', pool: 'navy', state: 'revoked' },
    ],
  );
  const history = await database.selectFrom('connection_history').selectAll().executeTakeFirstOrThrow();
  assert.deepEqual(
    [history.state, history.reason, history.addresses, history.bytes_received, history.bytes_sent],
    ['closed', 'client', ['10.99.0.7'], 1500, 20_000],
  );
  const node = await database.selectFrom('nodes').selectAll().executeTakeFirstOrThrow();
  assert.deepEqual([node.node, node.state], ['node-a', 'stopped']);
  const failures = await database.selectFrom('connection_failures').select('count').execute();
  assert.deepEqual(failures, [{ count: 3 }]);
  const grants = await database.selectFrom('block_grants').select(['block', 'end_reason']).execute();
  assert.deepEqual(grants, [{ block: '10.99.0.0/26', end_reason: 'returned' }]);
});
