import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { ProjectionMemory } from '../../../control-plane/projections/projection-memory.ts';
import { applyBatch, readCheckpoint } from '../../../control-plane/projector/apply-batch.ts';
import { MAX_RELEASED } from '../../../control-plane/projector/parked-store.ts';
import { readMessage } from '../../../control-plane/projector/read-message.ts';
import { encodeEvents, type VpnEvent } from '../../../shared/events/envelope.ts';
import { nodeEventSubject } from '../../../shared/events/subjects.ts';
import { MAX_UNCOMMITTED_EVENTS } from '../../../shared/nats/messages.ts';
import { SampleNode } from '../../unit/projections/sample-events.ts';
import { startTestPostgres, type TestPostgres } from './projector-database.ts';
import { TestLog } from './test-log.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(async () => postgres.stop());

const event = (node: SampleNode, seq: number): VpnEvent => ({
  ...node.event('node.draining', 0, { reason: 'waits' }),
  seq,
});

/** Parks events that arrived before one that precedes them: those with the numbers of a query. */
async function park(log: TestLog, node: SampleNode, seqs: string): Promise<void> {
  const envelope = JSON.stringify(event(node, 0));
  await sql`
    INSERT INTO parked_events (node, epoch, seq, envelope, stream_seq)
    SELECT ${node.node}, ${node.epoch}, seq, (${envelope}::jsonb || jsonb_build_object('seq', seq))::json, 0
    FROM (${sql.raw(seqs)}) AS waiting (seq)`.execute(log.database);
}

/** Of the whole log: spool and number in their order, and how many the largest transaction has. */
async function logged(log: TestLog): Promise<{ order: string[]; largest: number }> {
  const { rows } = await sql<{ event: string; transaction: string }>`
    SELECT concat(epoch, '/', seq) AS event, recorded_at::text AS transaction FROM events ORDER BY position`.execute(
    log.database,
  );
  const sizes = new Map<string, number>();
  for (const { transaction } of rows) sizes.set(transaction, (sizes.get(transaction) ?? 0) + 1);
  return { order: rows.map(({ event: name }) => name), largest: Math.max(...sizes.values()) };
}

const parkedOf = async (log: TestLog) =>
  (await sql<{ count: number }>`SELECT count(*)::int AS count FROM parked_events`.execute(log.database)).rows[0]?.count;

const range = (epoch: string, from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => `${epoch}/${from + i}`);

/** Delivers, and breaks off in the transaction with that number. */
async function breakOff(log: TestLog, transaction: number, events: readonly VpnEvent[]): Promise<void> {
  const from = await readCheckpoint(log.database);
  const streamSeq = from.streamSeq + 1;
  const message = readMessage({ streamSeq, subject: nodeEventSubject('node-a'), data: encodeEvents(events) });
  const to = { streamCreated: 'stream', streamSeq };
  let begun = 0;
  const fold = async () => {
    if (++begun === transaction) throw new Error('the process ends here');
  };
  await assert.rejects(
    applyBatch(log.database, log.ownerEpoch, from, to, [message], { memory: new ProjectionMemory(), fold }),
    {
      message: 'the process ends here',
    },
  );
}

test('what waited for one event is released in steps, each event once and in its order', async () => {
  const log = await TestLog.open(postgres);
  const [node, other] = [new SampleNode('node-a'), new SampleNode('node-b')];
  const count = 20 * MAX_RELEASED;
  await log.deliver([event(node, 1)], [event(other, 1)]);
  await park(log, node, `SELECT generate_series(3, ${count})`);
  await park(log, other, `SELECT generate_series(3, 5)`);
  const result = await log.deliver([event(node, 2)], [event(other, 2)]);
  assert.deepEqual([result.applied, result.gaps], [count - 1 + 4, 0]);
  assert.deepEqual(
    new Map(result.epochs.map(({ node: id, appliedSeq }) => [id, appliedSeq])),
    new Map([
      ['node-a', count],
      ['node-b', 5],
    ]),
  );
  const { order, largest } = await logged(log);
  assert.deepEqual(
    order.filter((one) => one.startsWith(node.epoch)),
    range(node.epoch, 1, count),
  );
  assert.deepEqual(
    order.filter((one) => one.startsWith(other.epoch)),
    range(other.epoch, 1, 5),
  );
  assert.ok(largest <= MAX_RELEASED + 2, `${largest} events in one transaction`);
  assert.equal(await parkedOf(log), 0);
});

test('a process that ends in the midst of a release leaves the rest to the next one', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const count = 5 * MAX_RELEASED;
  await log.deliver([event(node, 1)]);
  await park(log, node, `SELECT generate_series(3, ${count})`);
  await breakOff(log, 3, [event(node, 2)]);
  const left = await parkedOf(log);
  assert.ok(left && left > 0 && left < count - 2, `${left} are parked still`);
  // As every new leader begins, without any message.
  const at = await readCheckpoint(log.database);
  await applyBatch(log.database, log.ownerEpoch, at, at, [], { memory: new ProjectionMemory() });
  assert.deepEqual((await logged(log)).order, range(node.epoch, 1, count));
  assert.equal(await parkedOf(log), 0);
});

test('what is parked of a spool that is replaced is released in steps, before anything of the new one', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const count = 6 * MAX_RELEASED;
  const old = node.epoch;
  await log.deliver([event(node, 1)]);
  // 2 comes in the very batch that brings the new spool; 4 and the one after 1,000 never do.
  await park(log, node, `SELECT seq FROM generate_series(3, ${count}) AS seqs (seq) WHERE seq NOT IN (4, 1001)`);
  const second = event(node, 2);
  node.loseSpool();
  const batch = [[second], [event(node, 1), event(node, 3)], [event(node, 2)]] as const;
  const result = await log.deliver(...batch);
  assert.ok(result.applied > 0);
  const lost = new Set([`${old}/4`, `${old}/1001`]);
  const { order, largest } = await logged(log);
  assert.deepEqual(order, [...range(old, 1, count).filter((one) => !lost.has(one)), ...range(node.epoch, 1, 3)]);
  assert.ok(largest <= MAX_RELEASED + 4, `${largest} events in one transaction`);
  const gaps = await log.database.selectFrom('event_gaps').selectAll().orderBy('from_seq').execute();
  assert.deepEqual(
    gaps.map(({ epoch, from_seq, to_seq, replaced_by }) => [epoch, from_seq, to_seq, replaced_by]),
    [
      [old, 4, 4, node.epoch],
      [old, 1001, 1001, node.epoch],
    ],
  );
  assert.equal(await parkedOf(log), 0);
});

test('a process that ends while a replaced spool is released loses nothing and applies nothing twice', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  const count = 5 * MAX_RELEASED;
  const old = node.epoch;
  await log.deliver([event(node, 1)]);
  await park(log, node, `SELECT generate_series(3, ${count})`);
  node.loseSpool();
  const first = event(node, 1);
  await breakOff(log, 3, [first]);
  assert.equal((await logged(log)).order.length, 1 + 2 * MAX_RELEASED);
  await log.deliver([first]);
  assert.deepEqual((await logged(log)).order, [`${old}/1`, ...range(old, 3, count), `${node.epoch}/1`]);
  assert.equal((await log.database.selectFrom('event_gaps').selectAll().execute()).length, 1);
});

test('no more of a spool is parked than a node may have under way: the rest is refused, and comes again', async () => {
  const log = await TestLog.open(postgres);
  const node = new SampleNode('node-a');
  await log.deliver([event(node, 1)]);
  await park(log, node, `SELECT generate_series(10, ${MAX_UNCOMMITTED_EVENTS + 9})`);
  const far = event(node, MAX_UNCOMMITTED_EVENTS + 10);
  const refused = await log.deliver([far, event(node, 9)]);
  assert.deepEqual([refused.refused, refused.parked, refused.applied], [1, 1, 0]);
  assert.deepEqual(refused.epochs, [], 'an answer would have it sent again at once');
  assert.equal(await parkedOf(log), MAX_UNCOMMITTED_EVENTS + 1);
  const some = await log.deliver([event(node, 2), far]);
  assert.deepEqual([some.refused, some.applied], [1, 1]);
  assert.deepEqual(some.epochs, [{ node: 'node-a', epoch: node.epoch, appliedSeq: 2 }]);
  await sql`DELETE FROM parked_events WHERE seq > 20`.execute(log.database);
  assert.deepEqual([(await log.deliver([far])).parked, await parkedOf(log)], [1, 13]);
});
