import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { NatsLink } from '../../../data-plane/control-link/nats-link.ts';
import { NodeDatabase } from '../../../data-plane/state/node-database.ts';
import { EventPublisher } from '../../../data-plane/telemetry/publisher.ts';
import { Spool } from '../../../data-plane/telemetry/spool.ts';
import { type NatsServer, startNatsServer } from '../../../deploy/local/nats-server.ts';
import type { NewEvent } from '../../../shared/events/envelope.ts';
import { createLogger } from '../../../shared/log/logger.ts';
import { nodeInbox } from '../../../shared/nats/node-permissions.ts';
import { needsBinary } from '../../support/requirements.ts';
import { waitFor } from '../../support/wait-for.ts';
import { StreamCommitter } from './stream-committer.ts';

const log = createLogger('test', process.env.LOG_LEVEL ?? 'silent');
const skip = needsBinary('nats-server', 'nats-server');
const NODE = 'node-a';
const OTHER_NODE = 'node-b';

interface Setup {
  nats: NatsServer;
  readonly natsDirectory: string;
  readonly stateDirectory: string;
  readonly spool: Spool;
  readonly publisher: EventPublisher;
  readonly committer: StreamCommitter;
}

function event(n: number): NewEvent {
  return { type: 'node.draining', at: new Date().toISOString(), data: { reason: `event ${n}` } };
}

function events(n: number): NewEvent[] {
  return Array.from({ length: n }, (_, i) => event(i));
}

async function setUp(t: TestContext, maxUncommitted?: number): Promise<Setup> {
  const root = mkdtempSync(join(tmpdir(), 'publisher-'));
  const natsDirectory = join(root, 'nats');
  const stateDirectory = join(root, 'state');
  const nats = await startNatsServer({ directory: natsDirectory, nodes: [NODE, OTHER_NODE] });
  const database = new NodeDatabase(stateDirectory);
  const spool = new Spool(database, { node: NODE, incarnation: 'a'.repeat(32) });
  const link = new NatsLink({ url: nats.nodeUrl(NODE), name: 'test', inboxPrefix: nodeInbox(NODE), log });
  const publisher = new EventPublisher({
    spool,
    link,
    log,
    ...(maxUncommitted === undefined ? {} : { maxUncommitted }),
  });
  const committer = await StreamCommitter.open(nats.url, NODE, spool.epoch);
  const setup: Setup = { nats, natsDirectory, stateDirectory, spool, publisher, committer };
  t.after(async () => {
    await publisher.stop(0);
    await link.close();
    await committer.close();
    database.close();
    await setup.nats.stop();
    rmSync(root, { recursive: true });
  });
  link.start();
  publisher.start();
  return setup;
}

async function allCommitted({ committer, spool }: Setup): Promise<void> {
  await waitFor(async () => (await committer.commit()) === spool.lastSeq, {
    timeoutMs: 30_000,
    what: 'all events to be committed',
  });
  await waitFor(() => spool.depth === 0, { timeoutMs: 5_000, what: 'the spool to be trimmed' });
}

test('undisturbed, every event arrives once, in few messages, and the spool is trimmed', { skip }, async (t) => {
  const setup = await setUp(t);
  const appends = Array.from({ length: 40 }, () => setup.spool.append(events(25)));
  await Promise.all(appends);
  await allCommitted(setup);
  assert.ok([...setup.committer.deliveries.values()].every((count) => count === 1));
  assert.equal(setup.committer.applied.size, 1000);
  assert.ok(setup.committer.messageSizes.length <= 50, `${setup.committer.messageSizes.length} messages`);
});

test('the end waits for a trim that is under way', { skip }, async (t) => {
  const { spool, publisher, committer } = await setUp(t);
  await spool.append(events(10_000));
  await waitFor(() => publisher.stats.acked === 10_000, { timeoutMs: 20_000, what: 'all events to be acknowledged' });
  await committer.commit();
  await waitFor(() => spool.depth < 10_000, { timeoutMs: 5_000, intervalMs: 1, what: 'a trim to be under way' });
  await publisher.stop(0);
  assert.equal(spool.depth, 0);
});

test('silence of the control plane repeats nothing and bounds what is published ahead', { skip }, async (t) => {
  const setup = await setUp(t, 200);
  await setup.spool.append(events(500));
  await waitFor(() => setup.publisher.stats.acked === 200, {
    timeoutMs: 10_000,
    what: '200 events to be acknowledged',
  });
  assert.equal(setup.publisher.stats.uncommitted, 200);
  assert.equal(setup.spool.depth, 500);
  await allCommitted(setup);
  assert.equal(setup.publisher.stats.repeated, 0);
});

for (const how of ['stop', 'kill'] as const) {
  test(`a nats-server that is ended by ${how} while events are published loses none`, { skip }, async (t) => {
    const setup = await setUp(t);
    let appended = 0;
    const appendAll = async (until: number) => {
      while (appended < until) {
        const n = Math.min(20, until - appended);
        await setup.spool.append(events(n));
        appended += n;
      }
    };
    await appendAll(500);
    const during = appendAll(2_000);
    await waitFor(() => setup.publisher.stats.acked >= 300, { timeoutMs: 10_000, what: 'some events to be published' });
    await setup.nats[how]();
    await during;
    assert.equal(setup.spool.lastSeq, 2_000);
    setup.nats = await setup.nats.restart();
    await allCommitted(setup);
    const most = Math.max(...setup.committer.deliveries.values());
    // Once, once more after the reconnect, and once more where the publish itself was cut off or refused at first.
    assert.ok(most <= 3, `an event arrived ${most} times`);
    const before = setup.publisher.stats.repeated;
    await setup.spool.append(events(100));
    await allCommitted(setup);
    assert.equal(setup.publisher.stats.repeated, before);
  });
}

test('a nats-server restored from an older copy of its store gets again what it has lost', { skip }, async (t) => {
  const setup = await setUp(t);
  await setup.spool.append(events(300));
  await allCommitted(setup);
  await setup.nats.stop();
  const copy = join(setup.natsDirectory, '..', 'copy');
  cpSync(join(setup.natsDirectory, 'store'), copy, { recursive: true });
  setup.nats = await setup.nats.restart();
  await setup.spool.append(events(400));
  await waitFor(() => setup.publisher.stats.acked >= 700, { timeoutMs: 20_000, what: 'the events to be acknowledged' });
  await setup.nats.kill();
  rmSync(join(setup.natsDirectory, 'store'), { recursive: true });
  cpSync(copy, join(setup.natsDirectory, 'store'), { recursive: true });
  setup.nats = await setup.nats.restart();
  await allCommitted(setup);
  assert.equal(setup.committer.appliedSeq, 700);
});

test('a nats-server whose store is gone gets all that is not committed', { skip }, async (t) => {
  const setup = await setUp(t);
  await setup.spool.append(events(300));
  await allCommitted(setup);
  await setup.spool.append(events(100));
  await waitFor(() => setup.publisher.stats.acked >= 400, { timeoutMs: 20_000, what: 'the events to be acknowledged' });
  await setup.nats.kill();
  rmSync(join(setup.natsDirectory, 'store'), { recursive: true });
  setup.nats = await setup.nats.restart();
  const again = await StreamCommitter.open(setup.nats.url, 'maker-of-the-stream', setup.spool.epoch);
  await again.close();
  await allCommitted(setup);
  assert.equal(setup.committer.appliedSeq, 400);
});

test('a stream that is made anew under a connected node gets all that is not committed', { skip }, async (t) => {
  const setup = await setUp(t);
  await setup.spool.append(events(300));
  await allCommitted(setup);
  await setup.spool.append(events(100));
  await waitFor(() => setup.publisher.stats.acked >= 400, { timeoutMs: 20_000, what: 'the events to be acknowledged' });
  await setup.committer.makeStreamAnew();
  await setup.spool.append(events(50));
  await allCommitted(setup);
  assert.equal(setup.committer.appliedSeq, 450);
  assert.ok(Math.max(...setup.committer.deliveries.values()) <= 2);
});

test('a spool restored from an older copy goes on in a new epoch', { skip }, async (t) => {
  const setup = await setUp(t);
  const directory = join(setup.stateDirectory, '..', 'older');
  const made = new NodeDatabase(directory);
  await new Spool(made, { node: OTHER_NODE, incarnation: 'c'.repeat(32) }).append([event(0)]);
  made.close();
  const database = new NodeDatabase(directory);
  const link = new NatsLink({
    url: setup.nats.nodeUrl(OTHER_NODE),
    name: 'older',
    inboxPrefix: nodeInbox(OTHER_NODE),
    log,
  });
  const older = new Spool(database, { node: OTHER_NODE, incarnation: 'd'.repeat(32) });
  await older.append([event(1)]);
  const { epoch } = older;
  const committer = await StreamCommitter.open(setup.nats.url, OTHER_NODE, epoch);
  committer.appliedSeq = 50;
  await committer.commit();
  const publisher = new EventPublisher({ spool: older, link, log });
  assert.equal(publisher.presence.lastSeq, undefined, 'its numbers may be those of other events');
  t.after(async () => {
    await publisher.stop(0);
    await link.close();
    await committer.close();
    database.close();
  });
  publisher.start();
  link.start();
  await waitFor(
    async () => {
      await committer.commit();
      return older.epoch !== epoch;
    },
    { timeoutMs: 10_000, what: 'a new epoch' },
  );
  await waitFor(() => publisher.stats.acked >= 1, { timeoutMs: 10_000, what: 'its event to be published' });
  assert.deepEqual([older.lastSeq, older.depth], [1, 1]);
  assert.deepEqual(publisher.presence, { epoch: older.epoch, incarnation: older.incarnation, lastSeq: 1 });
});

test('an older copy of a spool of which the stream has more than is committed publishes nothing under numbers that others had', {
  skip,
}, async (t) => {
  const setup = await setUp(t);
  const { committer, spool, publisher } = setup;
  await spool.append(events(3));
  const copy = join(setup.stateDirectory, '..', 'copy');
  cpSync(setup.stateDirectory, copy, { recursive: true });
  await spool.append(events(7));
  await waitFor(() => publisher.stats.acked === 10, { timeoutMs: 10_000, what: 'its events to be acknowledged' });
  await publisher.stop(0);

  const first = new NodeDatabase(copy);
  await new Spool(first, { node: NODE, incarnation: 'c'.repeat(32) }).append(events(5));
  first.close();
  const database = new NodeDatabase(copy);
  const older = new Spool(database, { node: NODE, incarnation: 'd'.repeat(32) });
  const link = new NatsLink({ url: setup.nats.nodeUrl(NODE), name: 'older', inboxPrefix: nodeInbox(NODE), log });
  const again = new EventPublisher({ spool: older, link, log });
  t.after(async () => {
    await again.stop(0);
    await link.close();
    database.close();
  });
  again.start();
  link.start();
  await older.append(events(15));
  await waitFor(() => committer.asked >= 3, { timeoutMs: 10_000, what: 'questions that do not confirm it' });
  assert.deepEqual([older.epoch, again.stats.acked], [spool.epoch, 0]);

  const renewed = async () => (await committer.commit()) === 10 && older.epoch !== spool.epoch;
  await waitFor(renewed, { timeoutMs: 10_000, what: 'a new epoch' });
  await committer.close();
  const next = await StreamCommitter.open(setup.nats.url, NODE, older.epoch);
  t.after(() => next.close());
  await waitFor(async () => (await next.commit()) === 20, { timeoutMs: 10_000, what: 'all events of the new epoch' });
  assert.deepEqual([committer.applied.size, older.lastSeq], [10, 20]);
});

/** A spool of which one process is known to have had the first 10 events, none of them published, and a later one 5 more. */
async function setUpSpoolOfThree(t: TestContext) {
  const setup = await setUp(t);
  const directory = join(setup.stateDirectory, '..', 'older');
  for (const [incarnation, count] of [['c', 10] as const, ['d', 5] as const]) {
    const database = new NodeDatabase(directory);
    await new Spool(database, { node: OTHER_NODE, incarnation: incarnation.repeat(32) }).append(events(count));
    database.close();
  }
  const database = new NodeDatabase(directory);
  const spool = new Spool(database, { node: OTHER_NODE, incarnation: 'e'.repeat(32) });
  const url = setup.nats.nodeUrl(OTHER_NODE);
  const link = new NatsLink({ url, name: 'older', inboxPrefix: nodeInbox(OTHER_NODE), log });
  const publisher = new EventPublisher({ spool, link, log });
  // The committer of the other node answers everybody.
  await setup.committer.close();
  const open = (epoch: string) => StreamCommitter.open(setup.nats.url, OTHER_NODE, epoch);
  const committer = await open(spool.epoch);
  let next: StreamCommitter | undefined;
  t.after(async () => {
    await publisher.stop(0);
    await link.close();
    await Promise.all([committer.close(), next?.close()]);
    database.close();
  });
  const start = () => {
    publisher.start();
    link.start();
  };
  /** Who commits its new epoch. */
  const replace = async () => {
    await committer.close();
    next = await open(spool.epoch);
    return next;
  };
  return { setup, spool, publisher, committer, start, replace };
}

const once = (seqs: number) => new Map(Array.from({ length: seqs }, (_, i) => [i + 1, 1]));

test('a spool that had more than it has is continued with what it had, and all that came later is of a new epoch', {
  skip,
}, async (t) => {
  const { spool, publisher, committer, start, replace } = await setUpSpoolOfThree(t);
  const { epoch } = spool;
  committer.reportedSeq = 20;
  await spool.append(events(25));
  start();
  await waitFor(() => publisher.stats.acked === 10, { timeoutMs: 10_000, what: 'what it had to be published' });
  const { asked } = committer;
  committer.reportedSeq = undefined;
  await waitFor(() => committer.asked > asked + 1, { timeoutMs: 10_000, what: 'more answers' });
  assert.deepEqual([spool.epoch, publisher.stats.acked], [epoch, 10], 'its next numbers are those of lost events');
  assert.equal(publisher.presence.lastSeq, undefined);

  assert.equal(await committer.commit(), 10);
  await waitFor(() => spool.epoch !== epoch, { timeoutMs: 10_000, what: 'a new epoch' });
  const next = await replace();
  await waitFor(async () => (await next.commit()) === 30, { timeoutMs: 10_000, what: 'all events of the new epoch' });
  assert.deepEqual([committer.deliveries, next.deliveries], [once(10), once(30)]);
  const incarnations = [...next.applied.values()].map(({ incarnation }) => incarnation[0]).join('');
  assert.equal(incarnations, 'd'.repeat(5) + 'e'.repeat(25));
  await waitFor(() => spool.depth === 0, { timeoutMs: 5_000, what: 'the spool to be trimmed' });
});

test('what is announced does not say whether a spool had more: the answer does', { skip }, async (t) => {
  const { spool, publisher, committer, start } = await setUpSpoolOfThree(t);
  const { epoch } = spool;
  committer.isAnswering = false;
  committer.reportedSeq = 11;
  committer.appliedSeq = 10;
  start();
  const isHeard = async () => (await committer.commit()) === 10 && spool.appliedSeq === 10;
  await waitFor(isHeard, { timeoutMs: 10_000, what: 'the announcement' });
  assert.deepEqual([spool.isConfirmed, spool.epoch, publisher.stats.acked], [false, epoch, 0]);
  committer.isAnswering = true;
  await waitFor(() => spool.epoch !== epoch, { timeoutMs: 10_000, what: 'a new epoch' });
  assert.deepEqual([spool.lastSeq, spool.isConfirmed], [5, true]);
});

for (const reportedSeq of [10, undefined]) {
  const told = reportedSeq === undefined ? 'by a control plane that does not know' : 'of no more than it had';
  test(`a spool that is told ${told} keeps its epoch, also after a reconnect`, { skip }, async (t) => {
    const { setup, spool, committer, start } = await setUpSpoolOfThree(t);
    committer.reportedSeq = reportedSeq;
    start();
    await spool.append(events(5));
    await waitFor(() => spool.isConfirmed, { timeoutMs: 10_000, what: 'its confirmation' });
    await waitFor(async () => (await committer.commit()) === 20, { timeoutMs: 10_000, what: 'all events' });
    assert.deepEqual(committer.deliveries, once(20));
    if (reportedSeq !== undefined) committer.reportedSeq = spool.lastSeq;
    await setup.nats.stop();
    setup.nats = await setup.nats.restart();
    const { asked } = committer;
    await waitFor(() => committer.asked > asked, { timeoutMs: 20_000, what: 'a question after the reconnect' });
    await spool.append(events(5));
    await waitFor(async () => (await committer.commit()) === 25, { timeoutMs: 20_000, what: 'all events' });
    assert.equal(spool.epoch, committer.epoch);
  });
}
