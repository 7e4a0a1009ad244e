import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { rebuildProjections } from '../../../control-plane/rebuild/rebuild-projections.ts';
import { migrate } from '../../../control-plane/storage/migrate.ts';
import { CONTROL_NODE, type EventType } from '../../../shared/events/envelope.ts';
import { at, randomId } from '../../unit/projections/sample-events.ts';
import { ADMINISTRATOR, startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(async () => postgres.stop());

/** As a build wrote them that knew nothing of auditors. */
const EVENTS: ReadonlyArray<readonly [node: string, seq: number, type: EventType, data: object]> = [
  [CONTROL_NODE, 1, 'client.enrolled', { clientId: 'ada', name: 'Ada', actor: 'admin' }],
  ['node-a', 1, 'node.started', { softwareVersion: '0', listen: '0.0.0.0:4433', tunnelMtu: 1400 }],
  [CONTROL_NODE, 2, 'client.updated', { clientId: 'ada', name: 'Ada L.', actor: 'admin' }],
  [CONTROL_NODE, 3, 'client.revoked', { clientId: 'ada', actor: 'admin' }],
  ['node-a', 2, 'node.stopped', { reason: 'SIGTERM' }],
];

test('a log from before is counted when the schema is brought up to date, and its changes are those of a rebuild', async () => {
  const database = await postgres.database('0007-static-addresses');
  const epochs = new Map([
    ['node-a', randomId()],
    [CONTROL_NODE, (await database.selectFrom('node_epochs').select('epoch').executeTakeFirstOrThrow()).epoch],
  ]);
  for (const [index, [node, seq, type, data]] of EVENTS.entries()) {
    await sql`
      INSERT INTO events (position, node, epoch, seq, incarnation, type, version, at, data)
      VALUES (${index + 1}, ${node}, ${epochs.get(node)}, ${seq}, ${randomId()}, ${type}, 1, ${at(index)}, ${JSON.stringify(data)})`.execute(
      database,
    );
  }
  await sql`UPDATE event_checkpoint SET position = ${EVENTS.length}`.execute(database);
  await sql`UPDATE node_epochs SET applied_seq = 3`.execute(database);
  await sql`INSERT INTO node_epochs VALUES ('node-a', ${epochs.get('node-a')}, 2, false)`.execute(database);
  await migrate(database);

  const rows = await database
    .selectFrom('completeness')
    .select(['node', 'in_log', 'verdict'])
    .orderBy('node')
    .execute();
  assert.deepEqual(rows, [
    { node: '*', in_log: 5, verdict: 'complete' },
    { node: CONTROL_NODE, in_log: 3, verdict: 'complete' },
    { node: 'node-a', in_log: 2, verdict: 'complete' },
  ]);
  const changes = () => database.selectFrom('admin_changes').selectAll().orderBy('position').execute();
  const migrated = await changes();
  assert.deepEqual(
    migrated.map(({ type, change }) => [type, change]),
    [
      ['client.enrolled', { name: 'Ada', pool: 'default' }],
      ['client.updated', { name: 'Ada L.', pool: 'default' }],
      ['client.revoked', {}],
    ],
  );
  await rebuildProjections(database, ADMINISTRATOR);
  assert.deepEqual((await changes()).slice(0, -1), migrated, 'before the rebuild itself');
});
