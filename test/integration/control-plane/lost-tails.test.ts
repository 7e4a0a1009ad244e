import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { recordLostTails } from '../../../control-plane/presence/record-lost-tails.ts';
import { SampleNode, sampled } from '../../unit/projections/sample-events.ts';
import { startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';
import { TestLog } from '../projector/test-log.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(async () => postgres.stop());

/** As presence has it of a spool: heard last, or only known from before. */
async function report(log: TestLog, { node, epoch }: SampleNode, lastSeq: number, isHeard: boolean): Promise<void> {
  await sql`
    INSERT INTO spool_reports VALUES (${node}, ${epoch}, ${lastSeq}, now())
    ON CONFLICT (node, epoch) DO UPDATE SET last_seq = excluded.last_seq`.execute(log.database);
  if (!isHeard) return;
  await sql`
    INSERT INTO node_presence VALUES (${node}, ${epoch}, ${epoch}, now())
    ON CONFLICT (node) DO UPDATE SET epoch = excluded.epoch`.execute(log.database);
}

async function gapsOf(log: TestLog, epoch: string): Promise<string[]> {
  const rows = await log.database.selectFrom('event_gaps').selectAll().where('epoch', '=', epoch).execute();
  return rows.map(({ from_seq: from, to_seq: to }) => `${from}-${to}`).sort();
}

async function countsOf(log: TestLog, epoch: string) {
  return await log.database
    .selectFrom('completeness')
    .select(['last_seq', 'in_log', 'lost', 'unexplained', 'reported_seq'])
    .where('epoch', '=', epoch)
    .executeTakeFirst();
}

const record = async (log: TestLog) => (await recordLostTails(log.database, log)).length;

test('the end of a spool is lost once its node is heard with another one whose first event is here', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const [before, events] = [{ ...node }.epoch, [1, 2, 3, 4, 5, 6].map((second) => sampled(node, second, []))];
  await log.deliver(events.slice(0, 2), [events[3]!]);
  await report(log, node, 5, true);
  assert.equal(await record(log), 0, 'it may be on its way');

  const old = Object.assign(new SampleNode('node-a'), { epoch: before });
  node.loseSpool();
  await log.deliver([node.started(60)]);
  assert.deepEqual(await gapsOf(log, before), ['3-3'], 'what is missing before what came is known at once');
  assert.equal(await record(log), 0, 'its node may have been heard with it just now');
  await report(log, node, 1, true);
  assert.equal(await record(log), 1);
  assert.deepEqual(await gapsOf(log, before), ['3-3', '5-5']);
  assert.equal(await record(log), 0);
  // What was said of it may reach Postgres later than the events of its successor.
  await report(log, old, 6, false);
  assert.equal(await record(log), 1);
  assert.deepEqual(await gapsOf(log, before), ['3-3', '5-6']);
  assert.deepEqual(await countsOf(log, before), { last_seq: 6, in_log: 3, lost: 3, unexplained: 0, reported_seq: 6 });

  const late = await log.deliver([events[4]!]);
  assert.equal(late.applied, 1);
  assert.deepEqual(await gapsOf(log, before), ['3-3', '6-6']);
  assert.equal(await record(log), 0);
  assert.equal((await log.deliver([events[5]!])).applied, 1);
  assert.deepEqual(await gapsOf(log, before), ['3-3'], 'what lies before what is applied stays lost');
  assert.deepEqual(await countsOf(log, before), { last_seq: 6, in_log: 5, lost: 1, unexplained: 0, reported_seq: 6 });
});

test('a spool of which nothing ever came is lost whole, but not while it may just have begun', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  await log.deliver([node.started(0)]);
  node.loseSpool();
  const unseen = node.epoch;
  const [first, second] = [sampled(node, 1, []), sampled(node, 2, [])];
  await report(log, node, 2, true);
  assert.equal(await record(log), 0);
  assert.deepEqual(await countsOf(log, unseen), { last_seq: 0, in_log: 0, lost: 0, unexplained: 0, reported_seq: 2 });

  node.loseSpool();
  await report(log, node, 1, true);
  assert.equal(await record(log), 0, 'its events may wait in the stream');
  await log.deliver([node.started(60)]);
  assert.equal(await record(log), 1);
  assert.deepEqual(await gapsOf(log, unseen), ['1-2']);
  assert.deepEqual(await countsOf(log, unseen), { last_seq: 2, in_log: 0, lost: 2, unexplained: 0, reported_seq: 2 });

  assert.equal((await log.deliver([first, second])).applied, 2);
  assert.deepEqual(await gapsOf(log, unseen), []);
  const { rows } = await sql<{
    epoch: string;
  }>`SELECT epoch FROM node_epochs WHERE current AND node = 'node-a'`.execute(log.database);
  assert.deepEqual(rows, [{ epoch: node.epoch }], 'what comes late makes no spool the newest one');
});

test('nothing is lost of a node that does not say how far its spool is, nor by a leader of the past', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  await log.deliver([node.started(0)]);
  const before = node.epoch;
  node.loseSpool();
  await log.deliver([node.started(60)]);
  await report(log, node, 1, true);
  assert.equal(await record(log), 0);
  await report(log, Object.assign(new SampleNode('node-a'), { epoch: before }), 9, false);
  await assert.rejects(recordLostTails(log.database, { ownerEpoch: log.ownerEpoch - 1 }), { code: 'NOT_LEADER' });
  assert.deepEqual(await gapsOf(log, before), []);
});
