import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import type { Database } from '../../../control-plane/storage/database.ts';
import type { VpnEvent } from '../../../shared/events/envelope.ts';
import { connectionOf, established, SampleNode, sampled } from '../../unit/projections/sample-events.ts';
import { startTestPostgres, type TestPostgres } from '../projector/projector-database.ts';
import { granted, TestLog } from '../projector/test-log.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(async () => postgres.stop());

const COUNTS = ['first_seq', 'last_seq', 'in_log', 'lost', 'dead_letters', 'parked', 'unexplained'] as const;

async function completeness(database: Database, node: string, epoch: string) {
  const row = await database
    .selectFrom('completeness')
    .selectAll()
    .where('node', '=', node)
    .where('epoch', '=', epoch)
    .executeTakeFirstOrThrow();
  return { counts: COUNTS.map((name) => row[name]), verdict: row.verdict };
}

async function proof(database: Database, { node, epoch }: Pick<SampleNode, 'node' | 'epoch'>): Promise<string[]> {
  const { rows } = await sql<{ from_seq: number; to_seq: number; found: string }>`
    SELECT * FROM epoch_proof(${node}, ${epoch})`.execute(database);
  return rows.map(({ from_seq, to_seq, found }) => `${from_seq}-${to_seq} ${found}`);
}

const tick = (node: SampleNode, seconds: number): VpnEvent => sampled(node, seconds, []);

/** As retention does it: the oldest whole partition goes. */
async function dropOldestPartition(log: TestLog, newest: number): Promise<void> {
  await sql`SELECT ensure_event_partitions(${newest}::bigint)`.execute(log.database);
  await sql`DROP TABLE events_000000`.execute(log.database);
}

test('a spool of which every event is in the log is complete, and so is the log', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  await log.decide(granted('node-a', 0, 60));
  await log.deliver([node.started(0), tick(node, 1)], [tick(node, 2)]);
  assert.deepEqual(await completeness(log.database, 'node-a', node.epoch), {
    counts: [1, 3, 3, 0, 0, 0, 0],
    verdict: 'complete',
  });
  assert.deepEqual(await completeness(log.database, '*', '*'), { counts: [1, 4, 4, 0, 0, 0, 0], verdict: 'complete' });
  const control = await log.database.selectFrom('completeness').selectAll().where('node', '=', 'control').execute();
  assert.deepEqual(
    control.map(({ in_log, verdict }) => [in_log, verdict]),
    [[1, 'complete']],
  );
  assert.deepEqual(await proof(log.database, node), ['1-3 in the log']);
});

test('what is awaited, lost or set aside is named, and the log itself proves it', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const other = new SampleNode('node-b');
  const stolen = connectionOf('alice');
  const start = [node.started(0), tick(node, 1)];
  const [third, fourth, fifth] = [tick(node, 3), tick(node, 4), tick(node, 5)];
  await log.deliver([other.started(0), established(other, stolen, 1)]);
  await log.deliver(start, [fourth, fifth]);
  assert.deepEqual(await completeness(log.database, 'node-a', node.epoch), {
    counts: [1, 2, 2, 0, 0, 2, 0],
    verdict: '2 parked, 3 is awaited',
  });
  assert.deepEqual(await proof(log.database, node), ['1-2 in the log', '3-3 awaited', '4-5 parked']);

  await log.deliver([third]);
  assert.equal((await completeness(log.database, 'node-a', node.epoch)).verdict, 'complete');
  // A node cannot speak for the connection of another: this one is set aside.
  await log.deliver([established(node, stolen, 6), tick(node, 7)]);
  tick(node, 8);
  await log.deliver([tick(node, 9)]);
  const { epoch } = node;
  node.loseSpool();
  await log.deliver([node.started(20)]);
  assert.deepEqual(await completeness(log.database, 'node-a', epoch), {
    counts: [1, 9, 7, 1, 1, 0, 0],
    verdict: '1 lost (8); 1 in dead_letter (6); replaced: whether the spool held more than 9 is unknown',
  });
  assert.deepEqual(await proof(log.database, { node: 'node-a', epoch }), [
    '1-5 in the log',
    '6-6 dead letter: FOREIGN_CONNECTION',
    '7-7 in the log',
    '8-8 lost',
    '9-9 in the log',
  ]);
  assert.equal((await completeness(log.database, 'node-a', node.epoch)).verdict, 'complete');
});

test('a verdict names the first five of what is missing and counts the rest, and the proof has all of it', async () => {
  const log = await TestLog.open(postgres);
  const [node, other] = [new SampleNode('node-a'), new SampleNode('node-b')];
  const stolen = connectionOf('alice');
  await log.deliver([other.started(0), established(other, stolen, 1)]);
  await log.deliver([node.started(0), ...Array.from({ length: 7 }, () => established(node, stolen, 2))]);
  const verdict = async () => (await completeness(log.database, 'node-a', epoch)).verdict;
  const { epoch } = node;
  assert.equal(await verdict(), '7 in dead_letter (2, 3, 4, 5, 6 and 2 more)');

  // Seven times two events that get lost and one that comes.
  const arriving = Array.from({ length: 7 }, () => [tick(node, 3), tick(node, 3), tick(node, 3)].at(-1) as VpnEvent);
  await log.deliver(arriving);
  node.loseSpool();
  await log.deliver([node.started(20)]);
  assert.equal(
    await verdict(),
    '14 lost (9-10, 12-13, 15-16, 18-19, 21-22 and 2 more); 7 in dead_letter (2, 3, 4, 5, 6 and 2 more); ' +
      'replaced: whether the spool held more than 29 is unknown',
  );
  const lost = (await proof(log.database, { node: 'node-a', epoch })).filter((line) => line.endsWith(' lost'));
  assert.deepEqual(
    lost,
    ['9-10', '12-13', '15-16', '18-19', '21-22', '24-25', '27-28'].map((range) => `${range} lost`),
  );

  await sql`DELETE FROM event_gaps WHERE from_seq > 21`.execute(log.database);
  assert.match(await verdict(), /^10 lost \(9-10, 12-13, 15-16, 18-19, 21-22\); /, 'five are not more than five');
});

test('a spool that ended with node.stopped is complete also when another follows', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  await log.deliver([node.started(0), node.event('node.stopped', 1, { reason: 'SIGTERM' })]);
  const { epoch } = node;
  node.loseSpool();
  await log.deliver([node.started(20)]);
  assert.equal((await completeness(log.database, 'node-a', epoch)).verdict, 'complete');
});

test('what a node told of and what does not come is named after ten seconds, of a spool of which nothing came too', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  await log.deliver([node.started(0), tick(node, 1)]);
  const silent = { node: 'node-b', epoch: 'b'.repeat(32) };
  const tell = ({ node: name, epoch }: { node: string; epoch: string }, lastSeq: number, secondsAgo: number) =>
    sql`INSERT INTO spool_reports VALUES (${name}, ${epoch}, ${lastSeq}, now() - ${secondsAgo} * interval '1 second')
      ON CONFLICT (node, epoch) DO UPDATE SET last_seq = excluded.last_seq, reported_at = excluded.reported_at`.execute(
      log.database,
    );
  await tell(node, 5, 9);
  await tell(silent, 3, 9);
  assert.equal((await completeness(log.database, 'node-a', node.epoch)).verdict, 'complete', 'they are on their way');
  await tell(node, 5, 11);
  await tell(silent, 3, 11);
  assert.deepEqual(await completeness(log.database, 'node-a', node.epoch), {
    counts: [1, 2, 2, 0, 0, 0, 0],
    verdict: 'the node told of events up to 5, those behind 2 are not all here',
  });
  assert.deepEqual(await completeness(log.database, silent.node, silent.epoch), {
    counts: [null, 0, 0, 0, 0, 0, 0],
    verdict: 'the node told of events up to 3, those behind 0 are not all here',
  });
  // It goes on writing, so that its last word is always a new one.
  await tell(node, 9, 0);
  await sql`UPDATE epoch_counts SET last_recorded_at = now() - interval '11 seconds'`.execute(log.database);
  const { verdict } = await completeness(log.database, 'node-a', node.epoch);
  assert.equal(verdict, 'the node told of events up to 9, those behind 2 are not all here');
  await log.deliver([3, 4, 5, 6, 7, 8, 9].map((seconds) => tick(node, seconds)));
  assert.equal((await completeness(log.database, 'node-a', node.epoch)).verdict, 'complete');
});

test('messages that cannot be read are named in the row of the whole log', async () => {
  const log = await TestLog.open(postgres);
  await log.deliverRaw({ subject: 'vpn.events.node.node-a', data: Buffer.from('nonsense') });
  const { verdict } = await completeness(log.database, '*', '*');
  assert.equal(verdict, '1 messages could not be read: see dead_letter');
});

test('after the oldest partition was dropped nothing is missing, and the proof says what is not kept', async () => {
  const log = await TestLog.open(postgres);
  const [node, gone] = [new SampleNode('node-a'), new SampleNode('node-b')];
  await log.deliver([gone.started(0), tick(gone, 1)], [node.started(0), tick(node, 1), tick(node, 2)]);
  await sql`UPDATE event_checkpoint SET position = 999999`.execute(log.database);
  await log.deliver([tick(node, 3), tick(node, 4)]);
  await dropOldestPartition(log, 1_000_001);
  assert.deepEqual(await completeness(log.database, 'node-a', node.epoch), {
    counts: [1, 5, 5, 0, 0, 0, 0],
    verdict: 'complete',
  });
  assert.deepEqual(await proof(log.database, node), ['1-3 was in the log, not kept any more', '4-5 in the log']);
  assert.deepEqual(await proof(log.database, gone), ['1-2 was in the log, not kept any more']);
});

test('a row that was taken out of the log by hand is not accounted for, before and after retention', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  await log.deliver([node.started(0), tick(node, 1), tick(node, 2), tick(node, 3)]);
  await sql`DELETE FROM events WHERE seq = 1`.execute(log.database);
  assert.deepEqual(await proof(log.database, node), ['1-1 not accounted for', '2-4 in the log']);

  await sql`UPDATE event_checkpoint SET position = 999999`.execute(log.database);
  await log.deliver([tick(node, 5), tick(node, 6), tick(node, 7)]);
  await dropOldestPartition(log, 1_000_002);
  await sql`DELETE FROM events WHERE seq = 6`.execute(log.database);
  assert.deepEqual(await proof(log.database, node), [
    '1-4 was in the log, not kept any more',
    '5-5 in the log',
    '6-6 not accounted for',
    '7-7 in the log',
  ]);
});

test('counts are kept whatever part of a batch is rolled back', async () => {
  const log = await TestLog.open(postgres);
  const [node, other] = [new SampleNode('node-a'), new SampleNode('node-b')];
  const stolen = connectionOf('alice');
  await log.deliver([other.started(0), established(other, stolen, 1)]);
  await log.deliver([node.started(0), tick(node, 1), established(node, stolen, 2), tick(node, 3), tick(node, 4)]);
  assert.deepEqual(await completeness(log.database, 'node-a', node.epoch), {
    counts: [1, 5, 4, 0, 1, 0, 0],
    verdict: '1 in dead_letter (3)',
  });
  const { counts } = await completeness(log.database, '*', '*');
  assert.deepEqual(counts, [1, 6, 6, 0, 0, 0, 0]);
});
