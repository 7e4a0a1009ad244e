import assert from 'node:assert/strict';
import { userInfo } from 'node:os';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { rebuildProjections } from '../../../control-plane/rebuild/rebuild-projections.ts';
import type { VpnEvent } from '../../../shared/events/envelope.ts';
import { differencesOf } from '../../support/differences-of.ts';
import {
  assigned,
  closed,
  connectionOf,
  established,
  SampleNode,
  sampled,
  totals,
} from '../../unit/projections/sample-events.ts';
import { breakProjection } from '../projector/break-projection.ts';
import { ADMINISTRATOR, everything, startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';
import { granted, TestLog } from '../projector/test-log.ts';
import { runAdmin } from './admin-process.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(async () => postgres.stop());

const admin = (...args: string[]) => runAdmin(postgres.url(), ['dead-letter', ...args]);

test('events that failed only in a projection are listed, tried in vain, and applied once the bug is fixed', async () => {
  const log = await TestLog.open(postgres);
  await log.decide(granted('node-a', -60, 3600));
  const node = new SampleNode('node-a');
  const [ada, bob] = [connectionOf('ada'), connectionOf('bob')];
  const fix = await breakProjection(log, 'ip_ledger', `NEW.entry = 'assigned'`);
  const result = await log.deliver([
    node.started(0),
    established(node, ada, 1),
    assigned(node, ada, 1),
    established(node, bob, 2),
    assigned(node, bob, 2, '10.99.3.8'),
    sampled(node, 5, [{ ...ada, traffic: totals(10, 20) }]),
  ]);
  assert.deepEqual([result.applied, result.deadLetters], [4, 2], 'two of one batch, the rest is applied');
  const alone = await log.deliver([assigned(node, bob, 6, '10.99.3.9')]);
  assert.deepEqual([alone.applied, alone.deadLetters], [0, 1], 'a batch of one');

  const listed = await admin('list');
  assert.match(
    listed.stdout,
    /^id\s+node\s+seq\s+type\s+recorded_at\s+error\n1 +node-a +3 +address.assigned +20\S+Z +a bug\n2 /,
  );
  const vain = await admin('retry', '1');
  assert.deepEqual([vain.status, vain.stdout], [1, '1: failed again: a bug\n0 of 1 applied\n']);

  await fix();
  const retried = await admin('retry', '--all', '--json');
  assert.equal(retried.status, 0, retried.stderr);
  const { outcomes } = JSON.parse(retried.stdout.trimEnd().split('\n').at(-1) ?? '');
  assert.deepEqual(outcomes, [
    { id: 1, type: 'applied', position: 6 },
    { id: 2, type: 'applied', position: 8 },
    { id: 3, type: 'applied', position: 10 },
  ]);
  assert.equal((await admin('list')).stdout, 'no dead letters\n');
  const again = await admin('retry', '2', '77');
  assert.equal(again.status, 1);
  assert.equal(
    again.stdout,
    '2: it was applied already, at position 8\n77: there is no such dead letter\n0 of 2 applied\n',
  );

  const [holder] = await log.holders('10.99.3.7', 10);
  assert.equal(holder?.client_id, 'ada');
  const { rows } = await sql<{ complete: boolean; unexplained: number }>`
    SELECT dead_letters, unexplained FROM completeness WHERE node = 'node-a'`.execute(log.database);
  assert.deepEqual(rows, [{ dead_letters: 0, unexplained: 0 }]);
  assert.deepEqual(await differencesOf(log.database), []);
});

test('who had a dead letter applied is in the log behind it, for auditors too, and after a rebuild', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const ada = connectionOf('ada');
  const fix = await breakProjection(log, 'connections', `NEW.state = 'closed'`);
  await log.deliver([node.started(0), established(node, ada, 1), closed(node, ada, 9, totals(10, 20))]);
  const vain = async () => assert.equal((await admin('retry', '1')).status, 1);
  await vain();
  const changes = () => log.database.selectFrom('admin_changes').selectAll().orderBy('position').execute();
  assert.deepEqual(await changes(), [], 'what is not applied changes nothing');
  await fix();

  const fixLog = await breakProjection(log, 'admin_events', 'true');
  await vain();
  assert.equal((await log.connection(ada.connectionId)).state, 'open', 'not applied without saying who did it');
  await fixLog();

  assert.equal((await admin('retry', '1')).status, 0);
  const [change, ...others] = await changes();
  assert.deepEqual(others, []);
  const { at, ...rest } = change!;
  assert.ok(at instanceof Date);
  assert.deepEqual(rest, {
    position: 4,
    actor: `cli:${userInfo().username}`,
    type: 'dead_letter.applied',
    subject_kind: 'dead_letter',
    subject_id: '1',
    change: { node: 'node-a', epoch: node.epoch, seq: 3, type: 'connection.closed', position: 3 },
  });
  const published = await log.database.selectFrom('outbox').select('position').execute();
  assert.deepEqual(published, [{ position: 4 }], 'for other readers of the stream');

  await log.deliver([node.event('node.draining', 10, { reason: 'asked to stop' })]);
  await log.decide(granted('node-a', 11, 3600));
  const before = await everything(log.database);
  await rebuildProjections(log.database, ADMINISTRATOR);
  const after = await everything(log.database);
  after.admin_events?.pop();
  assert.deepEqual(after, before, 'but for the rebuild itself');
  assert.deepEqual(await differencesOf(log.database), []);
  const { rows } = await sql`SELECT node FROM completeness WHERE verdict <> 'complete'`.execute(log.database);
  assert.deepEqual(rows, []);
});

test('what is applied late is known to the leader, and says nothing of the node as it is now', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const [ada, bob] = [connectionOf('ada'), connectionOf('bob')];
  const fix = await breakProjection(log, 'connections', `NEW.state = 'closed'`);
  await log.deliver([node.started(0), established(node, ada, 1)]);
  await log.deliver([closed(node, ada, 9, totals(100, 20))]);
  await fix();
  await log.deliver([node.started(20), established(node, bob, 21)]);
  assert.equal((await log.connection(ada.connectionId)).reason, 'error', 'by the new process');
  assert.equal((await admin('retry', '--all')).status, 0);
  await log.deliver([
    sampled(node, 25, [
      { ...bob, traffic: totals(1, 2) },
      { ...ada, traffic: totals(100, 1) },
    ]),
  ]);
  assert.equal((await log.connection(ada.connectionId)).reason, 'client');
  assert.equal((await log.connection(bob.connectionId)).state, 'open', 'the present process still runs');
  assert.deepEqual(await differencesOf(log.database), []);
});

test('what a node wrote is shown on one line, and does nothing to the terminal', async () => {
  const log = await TestLog.open(postgres);
  const event = { ...new SampleNode('node-a').started(0), type: 'x\n\u001b[2Jy' } as unknown as VpnEvent;
  await log.deliver([event]);
  const { stdout } = await admin('list');
  assert.match(stdout, /^id .*\n1 .* x\\u000a\\u001b\[2Jy .* event x\\u000a\\u001b\[2Jy node-a\/.* unknown type\n$/);
  assert.match(
    (await admin('retry', '1')).stdout,
    /^1: failed again: event x\\u000a\\u001b\[2Jy .*\n0 of 1 applied\n$/,
  );
});

test('a message that could not be read cannot be tried again', async () => {
  const log = await TestLog.open(postgres);
  await log.deliverRaw({ subject: 'vpn.events.node.node-a', data: Buffer.from('no JSON') });
  const { status, stdout } = await admin('retry', '1');
  assert.deepEqual([status, stdout], [1, '1: no event can be read from its message\n0 of 1 applied\n']);
  assert.equal((await admin('retry', '--all')).stdout, '0 of 0 applied\n');
});

test('poison is not in the log, so a rebuild makes the same of it as the projector did', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const ada = connectionOf('ada');
  const events: VpnEvent[] = [node.started(0), established(node, ada, 1)];
  const poison = [
    node.event('node.draining', 2, { reason: 'a NUL: \0' }),
    node.event('node.draining', 2, { reason: '\0' }),
  ];
  const result = await log.deliver([...events, ...poison, closed(node, ada, 3, totals(1, 1))]);
  assert.deepEqual([result.applied, result.deadLetters], [3, 2]);
  await rebuildProjections(log.database, ADMINISTRATOR);
  assert.deepEqual(await differencesOf(log.database), []);
  assert.equal((await admin('retry', '--all')).status, 1);
  assert.match((await admin('list', '--limit', '1')).stdout, /is no text of Postgres\n1 more\n$/);
});
